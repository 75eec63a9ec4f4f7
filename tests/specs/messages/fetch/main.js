// Every fetch of a guest is a request to its host, which answers with what it likes.
const sandbox = new V8Sandbox({ cpuLimitMs: 5000 });
const guest = await sandbox.createIsolate();
const ask = (code) => guest.evaluate(code).catch((error) => `${error.name}: ${error.message}`);
console.log("no handler:", await ask(`fetch("http://example.com/")`));

const aborted = Promise.withResolvers();
guest.onRequest("fetch", async ({ url, method, headers, body, redirect }, { signal }) => {
  const { pathname } = new URL(url);
  switch (pathname) {
    case "/echo":
      return {
        ok: true,
        status: 200,
        statusText: "Fine",
        headers: { "Content-Type": "application/json", "X-Many": ["a", "b"] },
        body: JSON.stringify({ method, headers, body, redirect }),
      };
    case "/bytes":
      return { status: 200, headers: {}, body: new Uint8Array(body).map((byte) => byte + 1) };
    case "/kind":
      return { status: 200, body: Object.prototype.toString.call(body) };
    case "/response":
      return new Response("of the platform", { status: 201, headers: [["set-cookie", "a=1"], ["set-cookie", "b=2"]] });
    case "/upper":
      return new Response(
        body.pipeThrough(new TextDecoderStream()).pipeThrough(
          new TransformStream({ transform: (text, out) => out.enqueue(text.toUpperCase()) }),
        ).pipeThrough(new TextEncoderStream()),
      );
    case "/large":
      return new Response(new Blob([new Uint8Array(5 << 20)]).stream());
    case "/redirect":
      console.log("  asked for", method, url, Object.keys(headers).join());
      return { status: 302, headers: { location: "/next" } };
    case "/next":
      console.log("  asked for", method, url, Object.keys(headers).join());
      return { status: 307, headers: { location: "http://other.test/end" } };
    case "/end":
      console.log("  asked for", method, url, Object.keys(headers).join());
      return { status: 200, body: "there" };
    case "/circle":
      return { status: 302, headers: { location: "/circle" } };
    case "/file":
      return { status: 302, headers: { location: "file:///etc/passwd" } };
    case "/hang":
      signal.onabort = () => aborted.resolve();
      return new Promise(() => {});
    case "/empty":
      return { status: 204 };
    case "/status":
      return { status: 99 };
    case "/nothing":
      return;
    default:
      throw new Error(`${url} is not allowed`);
  }
});
const cases = {
  echo: `const r = await fetch("http://a.test/echo", { method: "POST", headers: { A: "1" }, body: "text" }); return [r.ok, r.status, r.statusText, r.url, [...r.headers], await r.json()]`,
  get: `return await (await fetch(new Request("http://a.test/echo?q=1#hash"))).json()`,
  form: `return await (await fetch("http://a.test/echo", { method: "POST", body: new URLSearchParams({ a: "1 2" }) })).json()`,
  bytes: `return [...await (await fetch("http://a.test/bytes", { method: "PUT", body: new Uint8Array([1, 2, 255]) })).bytes()]`,
  kinds: `const kinds = []; for (const body of ["t", new Uint8Array(1), new Blob(["b"]), new FormData(), ReadableStream.from([new Uint8Array(1)])]) kinds.push(await (await fetch("http://a.test/kind", { method: "POST", body })).text()); return kinds`,
  response: `const r = await fetch("http://a.test/response"); return [r.status, await r.text(), r.headers.getSetCookie()]`,
  streams: `const r = await fetch("http://a.test/upper", { method: "POST", body: ReadableStream.from(["one ", "two"]).pipeThrough(new TextEncoderStream()) }); return await r.text()`,
  large: `let size = 0; for await (const chunk of (await fetch("http://a.test/large")).body) size += chunk.length; return size`,
  cancelled: `const r = await fetch("http://a.test/large"); await r.body.cancel("enough"); return r.bodyUsed`,
  redirect: `const r = await fetch("http://a.test/redirect", { method: "POST", body: "x", headers: { authorization: "secret", "x-own": "1" } }); return [r.redirected, r.url, await r.text()]`,
  redirectManual: `const r = await fetch("http://a.test/redirect", { redirect: "manual" }); return [r.status, r.headers.get("location")]`,
  redirectError: `await fetch("http://a.test/next", { redirect: "error" })`,
  redirectCircle: `await fetch("http://a.test/circle")`,
  redirectFile: `await fetch("http://a.test/file")`,
  abort: `const controller = new AbortController(); const p = fetch("http://a.test/hang", { signal: controller.signal }); setTimeout(() => controller.abort(), 1); await p`,
  timeout: `await fetch("http://a.test/hang", { signal: AbortSignal.timeout(1) })`,
  abortedBefore: `await fetch("http://a.test/hang", { signal: AbortSignal.abort("why") })`,
  empty: `const r = await fetch("http://a.test/empty"); return [r.status, r.body]`,
  status: `await fetch("http://a.test/status")`,
  nothing: `await fetch("http://a.test/nothing")`,
  refused: `await fetch("http://b.test/")`,
  wrongUrl: `await fetch("no url")`,
  getWithBody: `await fetch("http://a.test/echo", { body: "x" })`,
};
for (const [name, code] of Object.entries(cases)) {
  console.log(`${name}:`, await ask(`(async () => { ${code} })()`));
}
await aborted.promise;
console.log("the host received the abort");
sandbox.shutdown();
