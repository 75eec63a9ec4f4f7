// Where nothing is both written and executed, and in a trust group, whose isolates share a worker.
const folder = await Deno.makeTempDir();
const sandbox = new V8Sandbox({ cpuLimitMs: 0, wallLimitMs: 0, memoryLimitMb: 64 });
const loop = (name) => `function ${name}() { let s = 0; for (let i = 0; i < 100; i++) s += i; return s } for (;;) ${name}();`;
const names = async (isolate, file) => {
  await isolate.cpuProfile(file, { seconds: 0.4 });
  const { nodes } = JSON.parse(await Deno.readTextFile(file));
  return ["own", "other"].filter((name) => nodes.some(({ callFrame }) => callFrame.functionName === name));
};

const strict = await sandbox.createIsolate({ isolation: "container", wx: "strict" });
strict.execute(loop("own"));
console.log("strict", await names(strict, `${folder}/strict.cpuprofile`));
await strict.heapSnapshot(`${folder}/strict.heapsnapshot`);
strict.destroy();

const group = { isolation: "process", group: "two" };
const [own, other] = [await sandbox.createIsolate(group), await sandbox.createIsolate(group)];
own.execute(loop("own"));
other.execute(loop("other"));
const both = [names(own, `${folder}/own.cpuprofile`), names(other, `${folder}/other.cpuprofile`)];
console.log("group", ...await Promise.all(both));
await Deno.remove(folder, { recursive: true });
sandbox.shutdown();
