console.log("before");
setTimeout(() => console.log("never"), 0);
addEventListener("load", () => console.log("never"));
// By then the timer is due.
for (const end = performance.now() + 5; performance.now() < end;);
const inner = new TypeError("inner");
throw new Error("outer", { cause: new AggregateError([inner, "text"], "several") });
