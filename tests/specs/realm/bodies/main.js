// Bodies of requests and responses: read into the reader's buffers, decoded as UTF-8 is.
const sandbox = new V8Sandbox({ cpuLimitMs: 5000 });
const guest = await sandbox.createIsolate();
guest.onRequest("fetch", ({ url }) => {
  const bytes = new TextEncoder().encode("streamed");
  const chunks = [bytes.subarray(0, 3), bytes.subarray(3, 3), bytes.subarray(3)];
  const body = url.endsWith("bytes") ? bytes : new ReadableStream({
    pull: (controller) => chunks.length > 0 ? controller.enqueue(chunks.shift()) : controller.close(),
  });
  return { status: 200, body };
});
guest.execute(`
  // Reads three bytes at a time.
  globalThis.intoBuffers = async (stream) => {
    const reader = stream.getReader({ mode: "byob" });
    const read = [];
    let view = new Uint8Array(3);
    for (;;) {
      const { done, value } = await reader.read(view);
      if (done) return [...read, value.byteLength];
      read.push(new TextDecoder().decode(value));
      view = new Uint8Array(value.buffer);
    }
  };
`);
const cases = {
  string: `intoBuffers(new Response("a text").body)`,
  empty: `intoBuffers(new Response("").body)`,
  bytes: `(async () => { const bytes = new TextEncoder().encode("bytes"); const r = new Response(bytes); const copy = r.clone(); return [await intoBuffers(r.body), await intoBuffers(copy.body), bytes.length] })()`,
  request: `intoBuffers(new Request("http://a.test/", { method: "POST", body: "request" }).body)`,
  blob: `intoBuffers(new Response(new Blob(["blob"])).body)`,
  form: `(async () => (await intoBuffers(new Response(new URLSearchParams({ a: "b c" })).body)).join(""))()`,
  fetched: `(async () => intoBuffers((await fetch("http://a.test/stream")).body))()`,
  fetchedBytes: `(async () => intoBuffers((await fetch("http://a.test/bytes")).body))()`,
  wideElements: `(async () => { const reader = (await fetch("http://a.test/stream")).body.getReader({ mode: "byob" }); const first = await reader.read(new Uint16Array(4), { min: 4 }); return [first.value.byteLength, (await reader.read(new Uint16Array(1))).done] })()`,
  oddBytes: `(async () => { const reader = new Response("abc").body.getReader({ mode: "byob" }); const { value } = await reader.read(new Uint16Array(2)); return [value.byteLength, await reader.read(new Uint16Array(2)).catch((e) => e.name)] })()`,
  tee: `(async () => { const [a, b] = (await fetch("http://a.test/stream")).body.tee(); return [await new Response(a).text(), await intoBuffers(b)] })()`,
  plainReader: `(async () => { const out = []; for await (const chunk of (await fetch("http://a.test/stream")).body) out.push(chunk.length); return out })()`,
  afterCancel: `(async () => { const { body } = await fetch("http://a.test/stream"); const reader = body.getReader({ mode: "byob" }); await reader.cancel(); return (await reader.read(new Uint8Array(1))).done })()`,
  markText: `(async () => [...await new Response("\\ufeffa").text()].length)()`,
  markJson: `new Response("\\ufeff{}").json()`,
  markRequest: `new Request("http://a.test/", { method: "POST", body: "\\ufeff[1]" }).json()`,
  markTwice: `(async () => [await new Response("\\ufeff\\ufeffa").text()].map((t) => [t.length, t.charCodeAt(0)]))()`,
  markBytes: `(async () => [...await new Response("\\ufeffa").bytes()])()`,
  markInBytes: `(async () => [await new Response(new Uint8Array([0xef, 0xbb, 0xbf, 0x61])).text()])()`,
  surrogate: `(async () => [await new Response("a\\ud800").text()].map((t) => t.charCodeAt(1)))()`,
  used: `(async () => { const r = new Response("x"); await r.text(); return [r.bodyUsed, await r.text().catch((e) => e.name), r.body.locked] })()`,
  passedOn: `(async () => { const r = new Response("x", { headers: { a: "1" } }); const next = new Response(r.body, r); return [await next.text(), next.headers.get("a")] })()`,
  longTimeout: `(async () => { const signals = [2 ** 31 - 1, 2 ** 31, 2 ** 32, 2 ** 53 - 1].map((ms) => AbortSignal.timeout(ms)); await new Promise((done) => AbortSignal.timeout(1).addEventListener("abort", done)); await new Promise((done) => setTimeout(done, 5)); return signals.map((s) => s.aborted) })()`,
  wrongTimeout: `AbortSignal.timeout(-1)`,
  navigator: `[navigator.userAgent, navigator instanceof Navigator, Object.prototype.toString.call(navigator)]`,
};
for (const [name, code] of Object.entries(cases)) {
  const value = await guest.evaluate(code).catch((error) => `${error.name}: ${error.message}`);
  console.log(`${name}: ${JSON.stringify(value)}`);
}
// A guest's own defaults for all objects reach none of the runtime's.
const polluted = await sandbox.createIsolate({ requestTimeoutMs: 20_000 });
polluted.onRequest("fetch", () => ({ status: 200, body: ReadableStream.from(["chunk"]) }));
polluted.onRequest("echo", (data) => data);
for (const [key, value] of [["size", 5], ["size", "() => NaN"], ["type", "'bytes'"], ["type", 7], ["highWaterMark", -1], ["autoAllocateChunkSize", 0], ["start", 1], ["pull", 1], ["cancel", 1], ["clamp", true], ["enforceRange", true], ["signal", 5]]) {
  const result = await polluted.evaluate(`(async () => {
    Object.prototype.${key} = ${value};
    try {
      const text = await (await fetch("http://a.test/")).text();
      return [text, await NETWORK.request("echo", "x")];
    } finally { delete Object.prototype.${key} }
  })()`).catch((error) => `${error.name}: ${error.message}`);
  console.log(key, value, JSON.stringify(result));
}
sandbox.shutdown();
