import "internal:globals";
import { clearImmediate, setImmediate } from "internal:immediate";
import * as promises from "node:timers/promises";

const { clearInterval: stopInterval, clearTimeout: stopTimeout, setInterval: every, setTimeout: after } = globalThis;

// A timer as Node has it. Timers of a guest keep nothing alive, so `ref` and `unref` change nothing.
class Timeout {
  constructor(start, stop, callback, delay, args) {
    this._begin = () => this._id = Reflect.apply(start, globalThis, [callback, delay, ...args]);
    this._stop = () => Reflect.apply(stop, globalThis, [this._id]);
    this._begin();
  }
  close() {
    this._stop();
    return this;
  }
  hasRef() {
    return true;
  }
  ref() {
    return this;
  }
  refresh() {
    this._stop();
    this._begin();
    return this;
  }
  unref() {
    return this;
  }
  [Symbol.toPrimitive]() {
    return this._id;
  }
  [Symbol.dispose]() {
    this._stop();
  }
}

export const setTimeout = (callback, delay, ...args) => new Timeout(after, stopTimeout, callback, delay, args);
export const setInterval = (callback, delay, ...args) => new Timeout(every, stopInterval, callback, delay, args);
export function clearTimeout(timer) {
  if (timer instanceof Timeout) timer.close();
  else Reflect.apply(stopTimeout, globalThis, [timer]);
}
export const clearInterval = clearTimeout;
export { clearImmediate, promises, setImmediate };
export default { clearImmediate, clearInterval, clearTimeout, promises, setImmediate, setInterval, setTimeout };
