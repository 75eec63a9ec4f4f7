// Clocks are as coarse as asked; shared memory, which makes a fine one, is off.
const sandbox = new V8Sandbox();
const readings = `(() => {
  const seen = new Set();
  for (let i = 0; i < 200_000 && seen.size < 20; i++) seen.add(performance.now());
  return [...seen];
})()`;
const multipleOf = (step) => (value) => Math.abs(value / step - Math.round(value / step)) < 1e-6;
const usual = await sandbox.createIsolate();
const values = await usual.evaluate(readings);
console.log("100 us:", values.length > 1, values.every(multipleOf(0.1)));
const coarse = await sandbox.createIsolate({ timerPrecisionUs: 5000, cpuLimitMs: 5000 });
console.log("5 ms:", (await coarse.evaluate(readings)).every(multipleOf(5)));
console.log("5 ms Date:", await coarse.evaluate(`[Date.now() % 5, new Date().getTime() % 5, +new Date.prototype.constructor() % 5, Date.prototype.constructor === Date]`));
console.log("time stamps:", await coarse.evaluate(`[new Event("x").timeStamp, performance.mark("m").startTime].map((t) => t % 5)`));
console.log(await usual.evaluate(`[
  typeof SharedArrayBuffer,
  (() => { try { new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true }).buffer; return "reached"; } catch (error) { return error.message; } })(),
  (() => { try { Atomics.wait(new Int32Array(4), 0, 0, 1); return "waited"; } catch (error) { return error.name; } })(),
  Atomics.add(new Int32Array(4), 0, 5),
]`));
sandbox.shutdown();
