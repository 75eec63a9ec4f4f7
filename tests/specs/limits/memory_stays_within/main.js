// One budget over the heap, array buffers and WebAssembly: the usage at the end is near the limit.
const sandbox = new V8Sandbox({ cpuLimitMs: 10_000, memoryLimitMb: 64 });
const hostile = {
  heap: `const all = []; for (;;) all.push(new Array(1000).fill(1.5))`,
  buffers: `const all = []; for (;;) all.push(new Uint8Array(1e6).fill(1))`,
  wasm: `const all = []; for (;;) { const m = new WebAssembly.Memory({ initial: 16 }); new Uint8Array(m.buffer).fill(1); all.push(m) }`,
  mixed: `const all = []; for (;;) all.push(new Uint8Array(5e5).fill(1), new Array(60_000).fill(1.5), new WebAssembly.Memory({ initial: 8 }))`,
};
for (const [name, code] of Object.entries(hostile)) {
  const guest = await sandbox.createIsolate();
  const ended = new Promise((resolve) => guest.onSystem("terminated", resolve));
  guest.onSystem("error", ({ message }) => console.log(name, "threw", message));
  guest.execute(code);
  const { reason, memoryMb } = await ended;
  console.log(name, reason, memoryMb > 30 && memoryMb < 130 ? "near the limit" : memoryMb);
}
const control = await sandbox.createIsolate();
console.log(await control.evaluate(`const all = []; for (let i = 0; i < 20; i++) all.push(new Uint8Array(1e6).fill(1)); all.length`));
// One request far above the limit is refused like any allocation, or ends the isolate: never the host.
const greedy = await sandbox.createIsolate();
console.log(await greedy.evaluate(`try { new Uint8Array(4e9); "allocated" } catch (error) { error.name }`).catch((error) => "ended"));
sandbox.shutdown();
