console.log("before");
setTimeout(() => { throw new RangeError("late"); }, 1);
setTimeout(() => console.log("never"), 1000);
