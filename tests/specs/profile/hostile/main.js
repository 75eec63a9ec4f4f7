// Guests that make a profile as large, as long or as wrong as they can. The folder `levels` has the harmless controls.
const folder = await Deno.makeTempDir();
const sandbox = new V8Sandbox({ cpuLimitMs: 0, wallLimitMs: 0, memoryLimitMb: 64 });
const read = async (file) => JSON.parse(await Deno.readTextFile(file));
const failed = async (promise) => {
  try {
    await promise;
    return "done";
  } catch (error) {
    return error.message.replace(/#\d+/g, "#N").split("\n")[0];
  }
};

// Names of a function and of a script that are as long as memory allows.
const names = `
  const long = "n".repeat(1 << 20);
  const one = new Function("return function f() { let s = 0; for (let i = 0; i < 1e5; i++) s += i; return s } //# sourceURL=" + long)();
  Object.defineProperty(one, "name", { value: long });
  for (;;) one();
`;
// Always another function, script and line.
const many = `
  for (let i = 0; ; i++) {
    const code = "\\n".repeat(i % 100) + "(function f" + i + "() { let s = 0; for (let i = 0; i < 2e4; i++) s += i; return s })()";
    (0, eval)(code + "//# sourceURL=script" + i);
  }
`;
// As deep as the stack allows.
const deep = `
  const down = (n) => { let s = 0; for (let i = 0; i < 100; i++) s += i; return n === 0 ? s : down(n - 1) + 1 };
  for (;;) down(2000);
`;
for (const isolation of ["thread", "container"]) {
  for (const [name, code] of Object.entries({ names, many, deep })) {
    const isolate = await sandbox.createIsolate({ isolation });
    isolate.execute(code);
    const file = `${folder}/${name}.cpuprofile`;
    await isolate.cpuProfile(file, { seconds: 0.5 });
    const profile = await read(file);
    const longest = Math.max(...profile.nodes.map(({ callFrame: { functionName, url } }) => functionName.length + url.length));
    console.log(isolation, name, profile.samples.length > 10, profile.nodes.length <= 16384, longest <= 768);
    isolate.destroy();
  }

  // It allocates meanwhile, and is taken a snapshot of.
  const busy = await sandbox.createIsolate({ isolation });
  busy.execute("const all = []; for (;;) { all.push({ a: 1 }); if (all.length > 1e5) all.length = 0; }");
  await busy.heapSnapshot(`${folder}/busy.heapsnapshot`);
  console.log(isolation, "allocates", (await read(`${folder}/busy.heapsnapshot`)).strings.length > 100);

  // One at a time, of which the second is refused.
  const first = busy.cpuProfile(`${folder}/first.cpuprofile`, { seconds: 0.2 });
  console.log(isolation, await failed(busy.heapStatistics()));
  await first;

  // It ends within a profile.
  const ending = failed(busy.cpuProfile(`${folder}/ending.cpuprofile`, { seconds: 60 }));
  busy.destroy();
  console.log(isolation, await ending);
  console.log(isolation, "no file is left:", await failed(Deno.stat(`${folder}/ending.cpuprofile`)));

  // It is ended for its memory within a profile.
  const greedy = await sandbox.createIsolate({ isolation });
  const lost = failed(greedy.cpuProfile(`${folder}/greedy.cpuprofile`, { seconds: 60 }));
  greedy.execute("const all = []; for (;;) all.push(new Array(1000).fill(1));");
  console.log(isolation, (await lost).startsWith("isolate #N ended before its profile was complete: memory_limit_exceeded"));
}

// A heap that takes more memory to describe than a worker is lent: it is not ended for the attempt.
const large = await sandbox.createIsolate({ isolation: "container", memoryLimitMb: 1024 });
await large.evaluate("globalThis.all = Array.from({ length: 35 }, () => new Array(1 << 20).fill(1.5)); 0");
console.log(await failed(large.heapSnapshot(`${folder}/large.heapsnapshot`)));
console.log("it lives:", await large.evaluate("all.length"));
large.destroy();

// A guest cannot make one, and the host's arguments are checked.
const guest = await sandbox.createIsolate({ isolation: "container" });
console.log(await guest.evaluate("[typeof cpuProfile, typeof NETWORK.cpuProfile, typeof Deno]"));
console.log(await failed(guest.cpuProfile("", { seconds: 1 })));
console.log(await failed(guest.cpuProfile(`${folder}/x`, { seconds: -1 })));
console.log(await failed(guest.cpuProfile(`${folder}/x`, { seconds: 1e9 })));
console.log(await failed(guest.cpuProfile(`${folder}/no/such`, { seconds: 0.01 })));
console.log(await failed(guest.heapSnapshot(new URL("https://example.com/"))));
// A CPU limit holds while it is profiled.
const limited = await sandbox.createIsolate({ isolation: "container", cpuLimitMs: 200 });
const over = failed(limited.cpuProfile(`${folder}/limited.cpuprofile`, { seconds: 60 }));
limited.execute("for (;;);");
console.log((await over).startsWith("isolate #N ended before its profile was complete: cpu_limit_exceeded"));
await Deno.remove(folder, { recursive: true });
sandbox.shutdown();
