// Right and wrong uses of the host's API.

const sandbox = new V8Sandbox({ threads: 2, warm: 4, cpuLimitMs: 500, isolation: "thread" });
const worker: Isolate = await sandbox.createIsolate({
  name: "acme",
  isolation: "container",
  group: "tenant-a",
  wx: "strict",
  cgroup: "require",
  killGraceMs: 50,
  ioOpsPerSecond: 1_000,
  ioBytesPerSecond: 1 << 20,
  maxPendingRequests: 64,
  cpuLimitMs: 100,
  cpuTotalMs: 0,
  cpuShare: 0.5,
  wallLimitMs: 5_000,
  requestTimeoutMs: 1_000,
  memoryLimitMb: 64,
  timerPrecisionUs: 100,
  sharedArrayBuffer: false,
  env: { region: "eu", nested: { list: [1, null, true], of: async (item: string) => item.length } },
  modules: { "main.ts": "export const f = (a: number) => a;" },
  console: "event",
});
const count: number = sandbox.threadCount() + sandbox.isolateCount() + worker.id;

interface Point {
  x: number;
  y: number;
}
const point: Point = { x: 1, y: 2 };
worker
  .on("done", (data) => console.log(data.anything))
  .on<Point>("point", ({ x, y }) => console.log(x + y))
  .off("done")
  .onRequest("add", ({ a, b }: { a: number; b: number }) => a + b)
  .onRequest("read", async ({ path }, { signal }) => {
    signal.throwIfAborted();
    return { content: await Deno.readTextFile(path) };
  })
  .onRequest("fetch", async ({ url, method, headers, body }) => {
    const response = await fetch(url, { method, headers, body });
    return { ok: response.ok, status: response.status, body: await response.text() };
  })
  .onRequest("fetch", () => new Response("no", { status: 403 }))
  .onSystem("terminated", ({ reason, cpuMs, memoryMb }) => {
    switch (reason) {
      case "cpu_limit_exceeded":
      case "wall_limit_exceeded":
      case "memory_limit_exceeded":
      case "crashed":
      case "policy_violation":
        break;
      default:
        reason satisfies never;
    }
    console.log(cpuMs + memoryMb);
  })
  .onSystem("error", ({ name, message, stack, line }) => console.log(name, message, stack, line))
  .onSystem("console", ({ level, text }) => console.log(level === "warn", text))
  .onSystem("destroyed", ({ reason }) => console.log(reason === "shutdown"))
  .allowWebSocket((url) => new URL(url).hostname === "example.com")
  .allowWebSocket(async () => false);

worker.execute("let a: number = 1");
worker.send("go");
worker.send("point", point);
worker.send("bytes", new Uint8Array([1]));
const sum: number = await worker.evaluate<number>("1 + 1");
const called: unknown = await worker.call("f", 1, point);
await worker.drain();
const { cpuMs, memoryMb, queuedTo } = worker.stats();
if (!worker.destroyed) worker.destroy();
{
  using inner = new V8Sandbox();
  using isolate = await inner.createIsolate();
  console.log(String(isolate), sum, called, cpuMs, memoryMb, queuedTo, count, isolate.name ?? "-");
}
sandbox.shutdown();

// @ts-expect-error -- no such option
new V8Sandbox({ cpuLimit: 1 });
// @ts-expect-error -- a sandbox has no name
new V8Sandbox({ name: "a" });
// @ts-expect-error -- no such level
await sandbox.createIsolate({ isolation: "docker" });
// @ts-expect-error -- limits are numbers
await sandbox.createIsolate({ memoryLimitMb: "64" });
// @ts-expect-error -- a symbol is not JSON
await sandbox.createIsolate({ env: { f: Symbol() } });
// @ts-expect-error -- a promise
sandbox.createIsolate().execute("");
// @ts-expect-error -- made by createIsolate only
new Isolate();
// @ts-expect-error -- no such system event
worker.onSystem("ended", () => {});
// @ts-expect-error -- no such reason
worker.onSystem("terminated", ({ reason }) => reason === "timeout");
// @ts-expect-error -- execute takes text
worker.execute(() => 1);
// @ts-expect-error -- functions do not cross
worker.send("a", () => 1);
// @ts-expect-error -- a BigInt does not cross
worker.send("a", 1n);
// @ts-expect-error -- read-only
worker.id = 1;
// @ts-expect-error -- a boolean is asked for
worker.allowWebSocket(() => "yes");
// @ts-expect-error -- headers are an object or pairs
worker.onRequest("fetch", () => ({ headers: "a: b" }));
// @ts-expect-error -- guests only
NETWORK.send("a");
// @ts-expect-error -- one of two words
await sandbox.createIsolate({ wx: "loose" });

// What an isolate is granted: one kind for each name.
await sandbox.createIsolate({
  grants: {
    NAMES: {
      dns: { names: ["example.com"], records: ["A", "MX"], limits: { rate: 5, timeout: "2s" } },
      approve: async ({ binding, method, arguments: text }) => binding + method !== text,
    },
    DOCS: { files: { path: "./docs", mode: "write" } },
  },
});
// @ts-expect-error: this kind does not exist
await sandbox.createIsolate({ grants: { A: { ftp: {} } } });
// @ts-expect-error: a grant of names lists them
await sandbox.createIsolate({ grants: { A: { dns: {} } } });

// Guests that answer HTTP.
const site = await sandbox.createIsolate({
  modules: { main: "export default { fetch: () => new Response() }" },
  serve: { concurrentRequests: 10, responseTimeoutMs: 1000, maxBodyBytes: 0, maxResponseBytes: 1, webSockets: 1 },
});
const answered: Response = await site.fetch("http://site/", { method: "POST", body: "text" });
console.log(answered.status);
const server = await site.listen({ port: 0, hostname: "::1", connections: 5, idleTimeoutMs: 1000, onListen: ({ port }) => console.log(port) });
server.unref();
const ended: string | undefined = await server.finished;
console.log(ended, server.addr.port);
await server.shutdown({ deadlineMs: 0 });
// @ts-expect-error -- a guest has no address of its own
await site.listen({ port: "80" });
// @ts-expect-error -- not a limit
await sandbox.createIsolate({ serve: { requests: 1 } });
