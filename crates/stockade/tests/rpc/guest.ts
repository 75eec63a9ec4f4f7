// What the tests of `stockade rpc` call.
export const add = (a: number, b: number): number => a + b;
export const args = (...all: unknown[]): unknown[] => all;
export const nothing = (): void => {};
export const text = (length: number): string => "x".repeat(length);
export const bytes = (): Uint8Array => new Uint8Array(2);

export class Refused extends Error {
  override name = "Refused";
}
export const refuse = (message: string): never => {
  throw new Refused(message);
};
export const refuseWithText = (): never => {
  throw "only text";
};

let counted = 0;
export const count = (): number => ++counted;
export const counts = (): number => counted;

let begun = 0;
export const begunLater = (): number => begun;
export const later = (ms: number): Promise<string> => {
  begun += 1;
  return new Promise((resolve) => setTimeout(() => resolve(`after ${ms}`), ms));
};
export const never = (): Promise<void> => new Promise(() => {});
export const spin = (): void => {
  for (;;);
};

export const value = 1;
export const then = (): string => "an export like any other";
(globalThis as Record<string, unknown>).hidden = (): string => "reached";

// Uses CPU time by an amount of work, and not of time: the machine may be busy.
export const burn = (millions: number): number => {
  let x = 0;
  for (let i = 0; i < millions * 1e6; i++) x = (x * 31 + i) | 0;
  return x;
};
export const reach = (url: string): Promise<string> => fetch(url).then(() => "reached", () => "refused");
