// Equality and the assertions that several suites share, over what vitest compares by.

import { arrayBufferEquality, equals, iterableEquality, sparseArrayEquality, typeEquality } from "@vitest/expect";

export class AssertionError extends Error {
  constructor(message) {
    super(typeof message === "object" ? message?.message : message);
    this.name = "AssertionError";
    this.code = "ERR_ASSERTION";
  }
}

export function show(value) {
  try {
    if (typeof value === "string") return JSON.stringify(value);
    if (typeof value === "bigint") return `${value}n`;
    if (value instanceof Error) return `${value.name}: ${value.message}`;
    if (ArrayBuffer.isView(value)) return `${value.constructor.name} [${String(value).slice(0, 200)}]`;
    return typeof value === "object" && value ? (JSON.stringify(value) ?? String(value)) : String(value);
  } catch {
    return Object.prototype.toString.call(value);
  }
}

// An object without a prototype is as good as one with the usual one, as in @std.
const kindEquality = (a, b) =>
  [a, b].some((one) => typeof one === "object" && one && Object.getPrototypeOf(one) === null) ? undefined : typeEquality(a, b);
export const same = (a, b) => equals(a, b, [iterableEquality, kindEquality, sparseArrayEquality, arrayBufferEquality], true);
export const alike = (a, b) => equals(a, b, [iterableEquality]);

export function check(truth, message, made) {
  if (truth) return;
  if (message instanceof Error) throw message;
  throw new AssertionError(message === undefined ? made() : `${message}: ${made()}`);
}
