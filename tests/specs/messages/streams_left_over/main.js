// A stream that goes nowhere is its owner's again, or is cancelled: nothing waits for a reader that there is not.
const sandbox = new V8Sandbox({ cpuLimitMs: 10_000, memoryLimitMb: 1536 });
const guest = await sandbox.createIsolate();
const show = (label, value) => console.log(`${label}:`, JSON.stringify(value));

// What is above a bound is not sent: its stream can still be read.
show(
  "guest",
  await guest.evaluate(`(async () => {
    globalThis.make = () => new Response("still here").body.pipeThrough(new TransformStream());
    const log = [];
    const name = "n".repeat(2000);
    for (const send of [(data) => NETWORK.send(name, data), (data) => NETWORK.request(name, data)]) {
      const stream = make();
      try { await send([stream]) } catch (error) { log.push(error.name) }
      log.push(stream.locked, await new Response(stream).text());
    }
    return log;
  })()`),
);
const large = `[globalThis.kept = make(), new Array(6_000_000).fill(0)]`;
show("guest's reply", await guest.evaluate(large).catch((error) => error.message.slice(0, 21)));
show("its stream", await guest.evaluate(`(async () => [kept.locked, await new Response(kept).text()])()`));

const parts = Array.from({ length: 20_000 }, () => new Uint8Array());
const make = () => new Response("still here").body.pipeThrough(new TransformStream());
const kept = make();
guest.onRequest("answer", () => [kept, parts]);
const answered = guest.evaluate(`NETWORK.request("answer").catch((error) => error.message.slice(0, 34))`);
show("host's answer", [await answered, kept.locked, await new Response(kept).text()]);
for (const send of [(data) => guest.send("event", data), (data) => guest.call("f", data)]) {
  const stream = make();
  const message = await (async () => send([stream, parts]))().catch((error) => error.message.slice(0, 34));
  show("host", [message, stream.locked, await new Response(stream).text()]);
}

// A fetch that fails cancels what it was sending.
guest.onRequest("fetch", async ({ url, body }, { signal }) => {
  if (url.endsWith("/fails")) throw new Error("no such place");
  if (url.endsWith("/drips")) {
    return { status: 200, body: new ReadableStream({ pull: () => {}, cancel: (reason) => show("host's stream", String(reason)) }) };
  }
  await new Promise((resolve) => signal.addEventListener("abort", resolve));
  await body.cancel();
});
const sending = (path, more) => guest.evaluate(`(async () => {
  const stop = new AbortController();
  const cancelled = Promise.withResolvers();
  const body = new ReadableStream({ type: "bytes", cancel: cancelled.resolve });
  const failed = fetch("http://a.test/${path}", { method: "POST", body, duplex: "half", signal: stop.signal }).catch((error) => error);
  ${more}
  return [(await failed).message, (await cancelled.promise) === (await failed)];
})()`);
show("fails", await sending("fails", ""));
show("aborted", await sending("waits", `setTimeout(() => stop.abort(new Error("enough")), 20);`));

// An abort does not wait for a body that is read for its integrity.
show("integrity", await guest.evaluate(`
  fetch("http://a.test/drips", { integrity: "sha256-AAAA", signal: AbortSignal.timeout(20) }).catch((error) => error.name)`));

// An answer that comes too late: its streams are cancelled, wherever they are in it.
const hasty = await sandbox.createIsolate({ requestTimeoutMs: 20 });
const late = Promise.withResolvers();
hasty.onRequest("slow", async (_, { signal }) => {
  await new Promise((resolve) => signal.addEventListener("abort", resolve));
  const stream = new ReadableStream({ pull: () => {}, cancel: (reason) => late.resolve(String(reason)) });
  let data = stream;
  for (let i = 0; i < 100; i++) data = [data];
  return data;
});
const refused = new Promise((resolve) => hasty.on("refused", resolve));
hasty.execute(`NETWORK.request("slow").catch((error) => NETWORK.send("refused", error.message))`);
show("too late", await refused);
show("its stream", await late.promise);
sandbox.shutdown();
