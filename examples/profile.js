// Finds out where a guest spends its CPU time and how large its heap is, while it computes.
//
//   stockade run examples/profile.js                           then open app.cpuprofile in Chrome's DevTools
//   stockade run --isolation container examples/profile.js     the same for a guest in a container

const code = `
function parse(text: string): number {
  let sum = 0;
  for (const part of text.split(",")) sum += Number(part);
  return sum;
}

export function serve(): never {
  const text = Array.from({ length: 500 }, (_, i) => i).join(",");
  for (;;) parse(text);
}
`;

const folder = await Deno.makeTempDir();
const sandbox = new V8Sandbox({ cpuLimitMs: 0, wallLimitMs: 0, memoryLimitMb: 128 });
const isolate = await sandbox.createIsolate({ name: "app", modules: { "main.ts": code } });
await isolate.ready;
isolate.call("serve").catch(() => {}); // It never returns, and takes no message.

const [profile, picture] = [`${folder}/app.cpuprofile`, `${folder}/app.svg`];
await isolate.cpuProfile(profile, { seconds: 1, svg: picture });

// The function of the guest in which most samples are.
const { nodes } = JSON.parse(await Deno.readTextFile(profile));
const own = nodes.filter(({ callFrame }) => callFrame.url === "guest:///main.ts");
const hits = new Map();
for (const { callFrame: { functionName }, hitCount } of own) {
  hits.set(functionName, (hits.get(functionName) ?? 0) + hitCount);
}
const [[most]] = [...hits].sort(([, a], [, b]) => b - a);
console.log("most of the time is in", most);
console.log("flame graph:", (await Deno.readTextFile(picture)).startsWith("<svg"));

const { usedHeap, heapLimit } = await isolate.heapStatistics();
console.log("its heap is within its limit:", usedHeap < heapLimit);
await isolate.heapSnapshot(`${folder}/app.heapsnapshot`);
console.log("heap snapshot:", (await Deno.stat(`${folder}/app.heapsnapshot`)).size > 100_000);

sandbox.shutdown();
await Deno.remove(folder, { recursive: true });
