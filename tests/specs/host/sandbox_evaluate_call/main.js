// `evaluate` and `call`: values, promises, bytes, and errors with the guest's lines.
const sandbox = new V8Sandbox();
const worker = await sandbox.createIsolate();
for (const code of ["1 + 1", "({ a: [1, { b: 2 }] })", "undefined", "Promise.resolve('later')", "null"]) {
  console.log(await worker.evaluate(code));
}
console.log(await worker.evaluate("({ bytes: new Uint8Array([1, 2, 3]), text: '\\0b0' })"));
worker.execute(`
  globalThis.add = (a, b) => a + b;
  globalThis.sizes = (...parts) => parts.map((part) => part.byteLength);
  globalThis.fail = () => { throw new RangeError("out of range"); };
`);
console.log(await worker.call("add", 1, 2));
console.log(await worker.call("sizes", new Uint8Array(5), new ArrayBuffer(7)));
for (const attempt of [
  () => worker.evaluate("const a = 1;\n\n  null.property;"),
  () => worker.evaluate("Promise.reject(new SyntaxError('by hand'))"),
  () => worker.evaluate("throw 'a string'"),
  () => worker.evaluate("const broken = ;"),
  () => worker.call("fail"),
  () => worker.call("missing"),
]) {
  try {
    await attempt();
  } catch (error) {
    console.log(error instanceof Error, error.name, "|", error.message.split("\n")[0]);
    const line = error.stack.match(/:(\d+):\d+/)?.[1];
    if (error.message.includes("property")) console.log("line", line);
  }
}
sandbox.shutdown();
