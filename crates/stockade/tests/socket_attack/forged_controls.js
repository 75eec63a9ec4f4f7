// A worker forges every control message there is, for streams and requests that are not its own, while
// its host reads a stream of a neighbour and answers a request of it.
const [isolation, memoryLimitMb] = Deno.args;
const sandbox = new V8Sandbox({ isolation, cpuLimitMs: 5000 });
const neighbour = await sandbox.createIsolate();
let aborted = 0;
neighbour.onRequest("slow", async (stream, { signal }) => {
  signal.addEventListener("abort", () => aborted++);
  const reader = stream.getReader();
  const first = await reader.read();

  const hostile = await sandbox.createIsolate({ memoryLimitMb: Number(memoryLimitMb) });
  hostile.onSystem("error", () => {});
  const done = new Promise((resolve) => hostile.on("done", resolve));
  await done;
  hostile.destroy();

  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    rest += new TextDecoder().decode(value);
  }
  return new TextDecoder().decode(first.value) + rest;
});
console.log(await neighbour.evaluate(`NETWORK.request("slow", ReadableStream.from(["a", "b", "c"]))`));
console.log("aborted:", aborted);
sandbox.shutdown();
