// Compiled modules of WebAssembly are cloned; memories, tables and instances are not.
const sandbox = new V8Sandbox({ cpuLimitMs: 5000, memoryLimitMb: 64 });
const guest = await sandbox.createIsolate();
await guest.evaluate(`
  // (module (func (export "f") (result i32) i32.const 42))
  globalThis.module = new WebAssembly.Module(new Uint8Array([
    0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 127, 3, 2, 1, 0, 7, 5, 1, 1, 102, 0, 0, 10, 6, 1, 4, 0, 65, 42, 11]));
  globalThis.answer = (module) => new WebAssembly.Instance(module).exports.f(); 0`);
const show = async (code) => console.log(await guest.evaluate(code).catch((error) => error.message));
await show(`(() => { const copy = structuredClone(module); return [copy !== module, answer(copy)] })()`);
await show(`(() => { const { a, b: [c] } = structuredClone({ a: module, b: [module] }); return [a === c, answer(a)] })()`);
await show(`new Promise((resolve) => {
  const { port1, port2 } = new MessageChannel();
  port2.onmessage = ({ data }) => { port2.close(); resolve(answer(data)) };
  port1.postMessage(module);
})`);
await show(`[new WebAssembly.Instance(module), new WebAssembly.Memory({ initial: 1 }), new WebAssembly.Table({ initial: 1, element: "anyfunc" })]
  .map((value) => { try { structuredClone(value) } catch (error) { return error.name } })`);
// What is not cloned to its end leaves nothing behind that grows.
await show(`(() => {
  let failed = 0;
  for (let i = 0; i < 20_000; i++) try { structuredClone([module, () => {}]) } catch { failed++ }
  return failed;
})()`);
console.log("alive:", await guest.evaluate("answer(structuredClone(module))"));
sandbox.shutdown();
