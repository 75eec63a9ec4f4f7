console.log("out", 1);
console.error("two\nlines");
export const main = (a: string): number => a.length;
