import EventEmitter from "internal:vendor/events";

export const errorMonitor = Symbol("events.errorMonitor");
export const captureRejectionSymbol = Symbol.for("nodejs.rejection");

// Listeners of `errorMonitor` see each error, and do not count as what handles it.
const emit = EventEmitter.prototype.emit;
EventEmitter.prototype.emit = function (type, ...args) {
  if (type === "error" && this.listenerCount(errorMonitor) > 0) emit.call(this, errorMonitor, ...args);
  return emit.call(this, type, ...args);
};
const { once: onceOf } = EventEmitter;

export function once(emitter, name, options) {
  const signal = options?.signal;
  if (signal === undefined) return emitter instanceof EventTarget ? onceOfTarget(emitter, name) : onceOf(emitter, name);
  if (signal.aborted) return Promise.reject(signal.reason);
  return new Promise((resolve, reject) => {
    const stop = () => reject(signal.reason);
    signal.addEventListener("abort", stop, { once: true });
    onceOf(emitter, name).then(resolve, reject).finally(() => signal.removeEventListener("abort", stop));
  });
}

function onceOfTarget(target, name) {
  return new Promise((resolve) => target.addEventListener(name, (event) => resolve([event]), { once: true }));
}

export function on(emitter, name, options) {
  const signal = options?.signal;
  const events = [];
  const waiting = [];
  let failure;
  let done = false;
  const onEvent = (...args) => {
    const next = waiting.shift();
    if (next === undefined) events.push(args);
    else next.resolve({ value: args, done: false });
  };
  const onError = (error) => {
    const next = waiting.shift();
    if (next === undefined) failure = { error };
    else next.reject(error);
    iterator.return();
  };
  const onAbort = () => onError(signal.reason);
  const iterator = {
    next() {
      if (events.length > 0) return Promise.resolve({ value: events.shift(), done: false });
      if (failure !== undefined) {
        const { error } = failure;
        failure = undefined;
        return Promise.reject(error);
      }
      if (done) return Promise.resolve({ value: undefined, done: true });
      return new Promise((resolve, reject) => waiting.push({ resolve, reject }));
    },
    return() {
      done = true;
      emitter.removeListener(name, onEvent);
      emitter.removeListener("error", onError);
      signal?.removeEventListener("abort", onAbort);
      for (const next of waiting.splice(0)) next.resolve({ value: undefined, done: true });
      return Promise.resolve({ value: undefined, done: true });
    },
    throw(error) {
      onError(error);
      return Promise.reject(error);
    },
    [Symbol.asyncIterator]() {
      return this;
    },
  };
  if (signal?.aborted) throw signal.reason;
  signal?.addEventListener("abort", onAbort, { once: true });
  emitter.on(name, onEvent);
  if (name !== "error") emitter.on("error", onError);
  return iterator;
}

export function getEventListeners(emitter, name) {
  return emitter.listeners(name);
}

export function setMaxListeners(count, ...emitters) {
  for (const emitter of emitters) emitter.setMaxListeners?.(count);
}

export function addAbortListener(signal, listener) {
  signal.addEventListener("abort", listener, { once: true });
  return { [Symbol.dispose]: () => signal.removeEventListener("abort", listener) };
}

export const listenerCount = (emitter, name) => emitter.listenerCount(name);
export const defaultMaxListeners = EventEmitter.defaultMaxListeners;
export const usingDomains = false;

Object.assign(EventEmitter, {
  addAbortListener,
  captureRejectionSymbol,
  errorMonitor,
  EventEmitter,
  getEventListeners,
  listenerCount,
  on,
  once,
  setMaxListeners,
});
export { EventEmitter };
export default EventEmitter;
