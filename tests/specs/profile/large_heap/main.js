// Snapshots of heaps that take more memory to describe than the guest's limit leaves: the worker is lent it, and only for that.
const folder = await Deno.makeTempDir();
const failed = (promise) => promise.then(() => "done", (error) => error.message.replace(/#\d+/g, "#N").split("\n")[0]);
const ends = async (file) => {
  const handle = await Deno.open(file);
  const { size } = await handle.stat();
  const text = async (at) => {
    await handle.seek(at, Deno.SeekMode.Start);
    const bytes = new Uint8Array(12);
    const read = await handle.read(bytes);
    return new TextDecoder().decode(bytes.subarray(0, read));
  };
  const found = [await text(0), (await text(size - 3)).trim()];
  handle.close();
  return { size, found };
};

const fill = "globalThis.all = Array.from({ length: 3e5 }, (_, i) => ({ i, text: 'x' + i })); all.length";
for (const isolation of ["process", "container"]) {
  const sandbox = new V8Sandbox({ cpuLimitMs: 0, wallLimitMs: 0, memoryLimitMb: 128, isolation });
  const isolate = await sandbox.createIsolate();
  console.log(isolation, await isolate.evaluate(fill));
  const { usedHeap } = await isolate.heapStatistics();
  console.log("  more than the limit leaves:", usedHeap * 12 > (128 << 20) - usedHeap);
  for (const name of ["first", "second"]) {
    await isolate.heapSnapshot(`${folder}/${name}`);
    const { size, found } = await ends(`${folder}/${name}`);
    console.log(`  ${name}:`, size > usedHeap, found.join(" ... "));
  }
  // It has all of its own memory, and no more of it than before.
  console.log("  goes on:", await isolate.evaluate("const more = Array.from({ length: 2e5 }, (_, i) => ({ i })); more.length + all.length"));
  const ended = new Promise((done) => isolate.onSystem("terminated", ({ reason }) => done(reason)));
  isolate.execute("const kept = []; for (;;) kept.push(new Array(1000).fill(1));");
  console.log("  its limit holds:", await ended);

  // What the kernel gives is bounded too: outside of a snapshot the worker is not lent anything.
  const greedy = await sandbox.createIsolate();
  const over = new Promise((done) => greedy.onSystem("terminated", ({ reason }) => done(reason)));
  await greedy.heapSnapshot(`${folder}/greedy`);
  greedy.execute("const kept = []; for (;;) kept.push(new ArrayBuffer(16 << 20));");
  console.log("  of another one, too:", await over);

  sandbox.shutdown();
}
await Deno.remove(folder, { recursive: true });
