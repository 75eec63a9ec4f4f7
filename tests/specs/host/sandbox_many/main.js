// Many isolates at once, none of which sees another.
const sandbox = new V8Sandbox({ threads: 4 });
const workers = await Promise.all(Array.from({ length: 50 }, () => sandbox.createIsolate()));
console.log(new Set(workers.map((worker) => worker.id)).size, sandbox.isolateCount());
const results = await Promise.all(workers.map((worker, i) => {
  worker.execute(`globalThis.secret = ${i}`);
  return worker.evaluate("globalThis.secret * 2");
}));
console.log(results.every((result, i) => result === i * 2));
for (const worker of workers) worker.destroy();
sandbox.shutdown();
