// Every function that this module exports is a method of JSON-RPC 2.0; nothing else can be called.

export const add = (a: number, b: number): number => a + b;

/** The mean of some numbers. An error reaches the caller with its message. */
export function mean(numbers: number[]): number {
  if (numbers.length === 0) throw new RangeError("there is no mean of no numbers");
  return numbers.reduce(add, 0) / numbers.length;
}
