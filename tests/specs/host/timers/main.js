// Timers, microtasks and their order.
const log = [];
setTimeout(() => log.push("timeout 1"), 1);
setTimeout(() => log.push("timeout 0"), 0);
queueMicrotask(() => log.push("microtask"));
Promise.resolve().then(() => log.push("then"));
log.push("sync");
const cleared = setTimeout(() => log.push("never"), 0);
clearTimeout(cleared);
let ticks = 0;
await new Promise((resolve) => {
  const interval = setInterval(() => {
    if (++ticks === 3) {
      clearInterval(interval);
      resolve();
    }
  }, 2);
});
console.log(log, ticks);
const unref = setTimeout(() => console.log("never"), 100_000);
Deno.unrefTimer(unref);
console.log(await AbortSignal.timeout(5).reason ?? "not yet");
