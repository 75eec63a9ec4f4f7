// Prints where a program prints, without a name in front, and ends by itself.
console.log("out", NETWORK.env.args);
console.error("err");
setTimeout((): void => console.log("later"), 20);
console.log("first\nsecond");
