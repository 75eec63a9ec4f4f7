export const f = (a: number): object => {
  console.warn("careful");
  setTimeout(() => {}, 0);
  return { a, b: [null, "\u001b"] };
};
