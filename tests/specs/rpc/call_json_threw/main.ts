interface Nothing {}
export function f(): never {
  throw new TypeError("no");
}
