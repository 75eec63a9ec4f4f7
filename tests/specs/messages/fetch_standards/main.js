// What the fetch standard says of redirects, aborts, bodies, digests and URLs that lie in the isolate itself.
const sandbox = new V8Sandbox({ cpuLimitMs: 5000 });
const guest = await sandbox.createIsolate({
  modules: {
    main: `export async function ask(path, init) {
      return await fetch(path, init);
    }`,
  },
});
const ask = (code) => guest.evaluate(code).catch((error) => `${error.name}: ${error.message}`);
let cancelled = Promise.withResolvers();
// A body that begins and never ends, and says when nobody wants it any more.
const dripping = () =>
  new ReadableStream({
    start: (controller) => controller.enqueue(new TextEncoder().encode("first ")),
    cancel: (reason) => cancelled.resolve(String(reason?.message ?? reason)),
  });
guest.onRequest("fetch", async ({ url, method, headers, body }) => {
  const { pathname, hostname } = new URL(url);
  const kind = body === null ? "nothing" : typeof body === "string" ? "text" : body.constructor.name;
  switch (pathname) {
    case "/again":
      return { status: 307, headers: { location: "/seen" }, body: dripping() };
    case "/elsewhere":
      return { status: 308, headers: { location: "http://other.test/seen" } };
    case "/seen": {
      const text = kind === "ReadableStream" ? await new Response(body).text() : body;
      return Response.json([hostname, method, kind, text?.length, Object.keys(headers).sort()]);
    }
    case "/length":
      return { status: 200, body: headers["content-length"] ?? "none" };
    case "/nowhere":
      return { status: 302, headers: { location: "http://:1/" }, body: dripping() };
    case "/mail":
      return { status: 302, headers: { location: "mailto:a@b.test" }, body: dripping() };
    case "/drips":
      return { status: 200, body: dripping() };
    case "/empty":
      return { status: 204, body: dripping() };
    case "/wrong":
      return { status: 200, headers: { "no name": "1" }, body: dripping() };
    case "/text":
      return { status: 200, statusText: "Fine", body: "text" };
    case "/read":
      return { status: 200, body: await new Response(body).text() };
    default:
      throw new RangeError(`${url} is not allowed`);
  }
});

const cases = {
  // A body that is not a stream is sent again.
  text: `return await (await fetch("http://a.test/again", { method: "POST", body: "four" })).json()`,
  bytes: `return await (await fetch("http://a.test/again", { method: "POST", body: new Uint8Array(5) })).json()`,
  blob: `return await (await fetch("http://a.test/again", { method: "PUT", body: new Blob(["seven.."]) })).json()`,
  form: `const body = new FormData(); body.set("a", "1"); const [host, method, kind, length] = await (await fetch("http://a.test/again", { method: "POST", body })).json(); return [host, method, kind, length > 50]`,
  request: `return await (await fetch(new Request("http://a.test/again", { method: "POST", body: "six..." }))).json()`,
  stream: `await fetch("http://a.test/again", { method: "POST", body: new Blob(["x"]).stream(), duplex: "half" })`,
  // What is for one origin stays there.
  origin: `return await (await fetch("http://a.test/elsewhere", { headers: { authorization: "a", "proxy-authorization": "b", cookie: "c", "x-own": "d" } })).json()`,
  fragment: `return (await fetch("http://a.test/again#part", { method: "POST" })).url`,
  // An answer that the guest does not get is cancelled.
  redirectError: `await fetch("http://a.test/again", { redirect: "error" })`,
  noUrl: `await fetch("http://a.test/nowhere")`,
  noHttp: `await fetch("http://a.test/mail")`,
  wrongHeader: `await fetch("http://a.test/wrong")`,
  noBody: `return (await fetch("http://a.test/empty")).body`,
  dropped: `const { body } = await fetch("http://a.test/drips"); await body.cancel("not wanted")`,
};
for (const [name, code] of Object.entries(cases)) {
  cancelled = Promise.withResolvers();
  console.log(`${name}:`, await ask(`(async () => { ${code} })()`));
  if (name !== "origin") console.log("  cancelled:", await cancelled.promise);
}

const aborts = {
  whileRead: `const c = new AbortController(); const r = await fetch("http://a.test/drips", { signal: c.signal }); const text = r.text(); c.abort(new Error("enough")); return await text`,
  afterFirst: `const c = new AbortController(); const r = await fetch("http://a.test/drips", { signal: c.signal }); const reader = r.body.getReader(); const { value } = await reader.read(); c.abort(); return [new TextDecoder().decode(value), await reader.read().catch((e) => e.name)]`,
  byTime: `const r = await fetch("http://a.test/drips", { signal: AbortSignal.timeout(20) }); return await r.text()`,
  byRequest: `const c = new AbortController(); const r = await fetch(new Request("http://a.test/drips", { signal: c.signal })); c.abort(); return await r.text()`,
  clone: `const c = new AbortController(); const r = await fetch("http://a.test/drips", { signal: c.signal }); const copy = r.clone(); c.abort(); return await Promise.all([r, copy].map((one) => one.text().catch((e) => e.name)))`,
};
for (const [name, code] of Object.entries(aborts)) {
  cancelled = Promise.withResolvers();
  console.log(`abort ${name}:`, await ask(`(async () => { ${code} })()`));
  console.log("  cancelled:", await cancelled.promise);
}
const more = {
  abortWhole: `const c = new AbortController(); const r = await fetch("http://a.test/text", { signal: c.signal }); c.abort(); return await r.text()`,
  abortRead: `const c = new AbortController(); const r = await fetch("http://a.test/text", { signal: c.signal }); const text = await r.text(); c.abort(); return text`,
  abortAny: `const c = new AbortController(); const r = await fetch("http://a.test/text", { signal: AbortSignal.any([c.signal]) }); c.abort("why"); return await r.text().catch((e) => e)`,
  // The chunks of a body are bytes, and whatever breaks it rejects the fetch.
  stringChunk: `await fetch("http://a.test/read", { method: "POST", duplex: "half", body: ReadableStream.from(["text"]) })`,
  bufferChunk: `await fetch("http://a.test/read", { method: "POST", duplex: "half", body: ReadableStream.from([new ArrayBuffer(1)]) })`,
  brokenStream: `const cause = new Error("mine"); const e = await fetch("http://a.test/read", { method: "POST", duplex: "half", body: new ReadableStream({ pull() { throw cause } }) }).catch((e) => e); return [e.name, e.message, e.cause === cause]`,
  byteChunk: `return await (await fetch("http://a.test/read", { method: "POST", duplex: "half", body: ReadableStream.from([new Uint8Array([97]), new Uint8Array(), new Uint8Array([98])]) })).text()`,
  surrogate: `return [...await (await fetch("http://a.test/read", { method: "POST", body: "a\\ud800" })).text()].map((c) => c.codePointAt())`,
  // A digest.
  integrity: `return await (await fetch("http://a.test/text", { integrity: "sha256-mC2ePrmW9VnmM/TRlN7zdh2Qn1o7ZH0ahR/q1nwyydE= sha256-nope" })).text()`,
  integrityWrong: `await fetch("http://a.test/text", { integrity: "sha384-AAAA" })`,
  integrityStrongest: `await fetch("http://a.test/text", { integrity: "sha256-mC2ePrmW9VnmM/TRlN7zdh2Qn1o7ZH0ahR/q1nwyydE= sha512-AAAA" })`,
  integrityUnknown: `return await (await fetch("http://a.test/text", { integrity: "md5-AAAA" })).text()`,
  // What lies in the isolate is no affair of the host's.
  data: `const r = await fetch("data:text/html;charset=utf-8,%3Cp%3E%20a#b"); return [r.status, r.statusText, r.type, r.headers.get("content-type"), await r.text(), r.url]`,
  dataBase64: `const r = await fetch("data:;base64,aGkg8J%2BYgA=="); return [r.headers.get("content-type"), await r.text()]`,
  dataPlain: `const r = await fetch(new Request("data:,%ff%zz")); return [r.headers.get("content-type"), [...await r.bytes()]]`,
  dataHead: `const r = await fetch("data:,abc", { method: "HEAD" }); return [r.status, await r.text()]`,
  dataWrong: `await fetch("data:text/plain")`,
  dataBase64Wrong: `await fetch("data:;base64,*")`,
  blobUrl: `const url = URL.createObjectURL(new Blob(["in a blob"], { type: "text/x-own" })); const r = await fetch(url); const text = await r.text(); URL.revokeObjectURL(url); return [r.status, r.headers.get("content-type"), r.headers.get("content-length"), text, await fetch(url).catch((e) => e.name)]`,
  blobRange: `const url = URL.createObjectURL(new Blob(["0123456789"])); const of = async (range) => { const r = await fetch(url, { headers: { range } }); return [r.status, r.headers.get("content-range"), await r.text()] }; return [await of("bytes=2-4"), await of("bytes=-3"), await of("bytes=8-"), await of("bytes=20-").catch((e) => e.name)]`,
  blobPost: `await fetch(URL.createObjectURL(new Blob([])), { method: "POST" })`,
  blobUnknown: `await fetch("blob:null/6d5b7a8e-0000-4000-8000-000000000000")`,
  // Every failure is a TypeError that says where the guest asked.
  refused: `const e = await fetch("http://b.test/").catch((e) => e); return [e instanceof TypeError, e.name, e.message]`,
  about: `await fetch("about:blank")`,
  file: `await fetch("file:///etc/passwd")`,
};
for (const [name, code] of Object.entries(more)) {
  console.log(`${name}:`, await ask(`(async () => { ${code} })()`));
}
const frames = (error) => error.stack.split("\n").slice(1).map((line) => line.trim().replace(/ \(.*\//, " ("));
await guest.call("ask", "http://b.test/").catch((error) => console.log(frames(error)));
await guest.call("ask", "http://a.test/mail").catch((error) => console.log(frames(error)));
await guest.evaluate(`(async function here() { await NETWORK.request("no such") })()`)
  .catch((error) => console.log(frames(error)));
sandbox.shutdown();
