// WebAssembly from a response's body. What is none is refused, and costs the host neither thread nor heap.
const sandbox = new V8Sandbox();
const guest = await sandbox.createIsolate();
const run = (code) => guest.evaluate(code).then((value) => console.log(value), (error) => console.log(error.name, "-", error.message));

guest.execute(`
  // (module (func (export "f") (result i32) i32.const 42))
  globalThis.bytes = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 127, 3, 2, 1, 0, 7, 5, 1, 1, 102, 0, 0,
    10, 6, 1, 4, 0, 65, 42, 11]);
  globalThis.of = (body, type = "application/wasm", status = 200) =>
    new Response(body, { status, headers: type === null ? {} : { "content-type": type } });
`);
await run(`WebAssembly.compileStreaming(5)`);
await run(`WebAssembly.compileStreaming(Promise.reject(new RangeError("of the guest")))`);
await run(`WebAssembly.compileStreaming(of(bytes, null))`);
await run(`WebAssembly.compileStreaming(of(bytes, "text/plain"))`);
await run(`WebAssembly.compileStreaming(of(bytes, undefined, 404))`);
await run(`WebAssembly.compileStreaming(of(new Uint8Array([1, 2, 3])))`);
await run(`WebAssembly.compileStreaming(of(null))`);
await run(`const used = of(bytes); used.text().then(() => WebAssembly.compileStreaming(used))`);
await run(`WebAssembly.compileStreaming(of(bytes)).then((module) => WebAssembly.Module.exports(module))`);
await run(`WebAssembly.instantiateStreaming(Promise.resolve(of(new Blob([bytes]), "Application/WASM"))).then(({ instance }) => instance.exports.f())`);
await run(`WebAssembly.compileStreaming(of(new ReadableStream({ start(c) { c.enqueue(bytes); c.error(new Error("broken off")) } })))`);
await run(`Response.prototype.arrayBuffer = () => "the guest's own"; Headers.prototype.get = () => 1;
  WebAssembly.instantiateStreaming(of(bytes)).then(({ instance }) => instance.exports.f())`);
console.log(sandbox.isolateCount(), sandbox.abandonedCount());
sandbox.shutdown();
