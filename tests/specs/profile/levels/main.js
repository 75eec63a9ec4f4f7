// CPU profile, flame graph, heap snapshot and heap statistics of a guest in TypeScript, at every level.
const code = `interface Order {
  id: number;
}

type Sum = number;

function hot(): Sum {
  let sum: Sum = 0;
  for (let i = 0; i < 1000; i++) {
    sum += Math.sqrt(i);
  }
  return sum;
}

const kept = { needle: "needle-" + "in-the-heap" };

export function forever(order: Order): never {
  for (;;) {
    if (hot() === order.id) globalThis.found = kept;
  }
}

export const needle = () => kept.needle;
`;

const folder = await Deno.makeTempDir();
const sandbox = new V8Sandbox({ cpuLimitMs: 0, wallLimitMs: 0, memoryLimitMb: 128 });
const find = (profile, name) => profile.nodes.filter((node) => node.callFrame.functionName === name);

for (const isolation of ["thread", "process", "container"]) {
  const isolate = await sandbox.createIsolate({ isolation, name: "shop", modules: { "main.ts": code } });
  await isolate.ready;
  console.log(isolation, await isolate.call("needle"));

  // At rest.
  const idle = `${folder}/${isolation}-idle.cpuprofile`;
  await isolate.cpuProfile(idle, { seconds: 0.05 });
  const atRest = JSON.parse(await Deno.readTextFile(idle));
  console.log("  at rest:", find(atRest, "hot").length, "hot,", find(atRest, "(idle)").length, "(idle)");

  // While it computes and takes no message.
  isolate.call("forever", { id: 1 }).catch(() => {});
  const [file, svg] = [`${folder}/${isolation}.cpuprofile`, `${folder}/${isolation}.svg`];
  await isolate.cpuProfile(file, { seconds: 0.5, svg });
  const profile = JSON.parse(await Deno.readTextFile(file));
  const [hot] = find(profile, "hot");
  const [caller] = find(profile, "forever");
  console.log("  hot is at", hot.callFrame.url, "from line 7 to 13:",
    hot.callFrame.lineNumber >= 6 && hot.positionTicks.every(({ line }) => line >= 7 && line <= 13));
  console.log("  called by forever:", caller.children.includes(hot.id));
  console.log("  at the top:", profile.samples.filter((id) => id === hot.id).length > profile.samples.length / 4);
  const total = profile.timeDeltas.reduce((sum, delta) => sum + delta, 0);
  console.log("  times add up:", total > 0 && total <= profile.endTime, profile.samples.length === profile.timeDeltas.length);
  const mode = (await Deno.stat(file)).mode & 0o777;
  console.log("  mode:", mode.toString(8));
  const picture = await Deno.readTextFile(svg);
  console.log("  picture:", picture.startsWith("<svg "), picture.includes("<title>hot\nguest:///main.ts:"));

  const heap = `${folder}/${isolation}.heapsnapshot`;
  await isolate.heapSnapshot(heap);
  const snapshot = JSON.parse(await Deno.readTextFile(heap));
  console.log("  snapshot:", snapshot.nodes.length === snapshot.snapshot.node_count * snapshot.snapshot.meta.node_fields.length,
    snapshot.strings.includes("needle-in-the-heap"));

  const statistics = await isolate.heapStatistics();
  console.log("  statistics:", statistics.usedHeap > 100_000, statistics.heapLimit > statistics.usedHeap,
    statistics.spaces.some(({ name }) => name === "old_space"));
  isolate.destroy();
}
await Deno.remove(folder, { recursive: true });
sandbox.shutdown();
