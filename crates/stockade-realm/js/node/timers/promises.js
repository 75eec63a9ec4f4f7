import { clearImmediate, setImmediate as immediate } from "internal:immediate";

function wait(start, stop, value, signal) {
  if (signal?.aborted) return Promise.reject(signal.reason);
  return new Promise((resolve, reject) => {
    const onAbort = () => {
      stop(timer);
      reject(signal.reason);
    };
    const timer = start(() => {
      signal?.removeEventListener("abort", onAbort);
      resolve(value);
    });
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}

export function setTimeout(delay, value, options) {
  return wait((done) => globalThis.setTimeout(done, delay), clearTimeout, value, options?.signal);
}

export function setImmediate(value, options) {
  return wait(immediate, clearImmediate, value, options?.signal);
}

export async function* setInterval(delay, value, options) {
  for (;;) yield await setTimeout(delay, value, options);
}

export const scheduler = { wait: (delay, options) => setTimeout(delay, undefined, options), yield: () => setImmediate() };
export default { scheduler, setImmediate, setInterval, setTimeout };
