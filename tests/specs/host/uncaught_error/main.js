console.log("before");
setTimeout(() => console.log("never"), 0);
const inner = new TypeError("inner");
throw new Error("outer", { cause: new AggregateError([inner, "text"], "several") });
