// The web platform's own classes, each used once.
const sandbox = new V8Sandbox();
const guest = await sandbox.createIsolate({ cpuLimitMs: 5000 });
const cases = {
  base64: `[btoa("hello"), atob("aGVsbG8=")]`,
  base64Wrong: `atob("*")`,
  text: `[new TextDecoder().decode(new TextEncoder().encode("žluť")), new TextDecoder("windows-1252").decode(new Uint8Array([0xe9])), new TextDecoder("utf-16le").decode(new Uint8Array([65, 0]))]`,
  textFatal: `new TextDecoder("utf-8", { fatal: true }).decode(new Uint8Array([0xff]))`,
  textStreams: `new Response(ReadableStream.from(["a", "ž"]).pipeThrough(new TextEncoderStream()).pipeThrough(new TextDecoderStream()).pipeThrough(new TextEncoderStream())).text()`,
  url: `[new URL("../b?x=1#y", "http://user@example.com:8080/a/c").href, URL.canParse("nope"), new URLSearchParams({ a: "1 2" }).toString()]`,
  urlPattern: `new URLPattern({ pathname: "/users/:id" }).exec("https://example.com/users/7").pathname.groups.id`,
  blob: `(async () => { const blob = new Blob(["ab", new Uint8Array([99])], { type: "text/plain" }); return [blob.size, blob.type, await blob.text(), await blob.slice(1, 2).text(), [...new Uint8Array(await blob.arrayBuffer())]] })()`,
  file: `(() => { const file = new File(["x"], "name.txt", { lastModified: 5 }); return [file.name, file.size, file.lastModified, file instanceof Blob] })()`,
  fileReader: `new Promise((resolve) => { const reader = new FileReader(); reader.onload = () => resolve(reader.result); reader.readAsDataURL(new Blob(["hi"], { type: "text/plain" })) })`,
  compression: `(async () => { const out = []; for (const format of ["gzip", "deflate", "deflate-raw"]) { const packed = new Blob(["aaaa".repeat(100)]).stream().pipeThrough(new CompressionStream(format)); const bytes = await new Response(packed).bytes(); const text = await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream(format))).text(); out.push([bytes.length < 100, text.length]); } return out })()`,
  compressionWrong: `new Response(new Blob(["not gzip"]).stream().pipeThrough(new DecompressionStream("gzip"))).text()`,
  structuredClone: `(() => { const value = { date: new Date(0), map: new Map([[1, new Set([2])]]), re: /a/g, bytes: new Uint8Array([1]), error: new RangeError("r") }; value.self = value; const copy = structuredClone(value); return [copy.self === copy, copy.date.getTime(), copy.map.get(1).has(2), copy.re.flags, copy.bytes[0], copy.error.name] })()`,
  structuredCloneFunction: `structuredClone(() => {})`,
  messageChannel: `new Promise((resolve) => { const { port1, port2 } = new MessageChannel(); port2.onmessage = ({ data }) => { port1.close(); resolve(data) }; port1.postMessage({ a: [1] }) })`,
  eventTarget: `(() => { const log = []; const target = new EventTarget(); target.addEventListener("x", { handleEvent: (e) => log.push(e.type, e.detail) }, { once: true }); target.dispatchEvent(new CustomEvent("x", { detail: 3 })); target.dispatchEvent(new CustomEvent("x")); return [log, target.dispatchEvent(new Event("y", { cancelable: true }))] })()`,
  globalEvents: `new Promise((resolve) => { addEventListener("mine", ({ type }) => resolve(type)); dispatchEvent(new Event("mine")) })`,
  abortTimeout: `new Promise((resolve) => { const signal = AbortSignal.timeout(1); signal.onabort = () => resolve(signal.reason.name) })`,
  abortAny: `(() => { const controller = new AbortController(); const any = AbortSignal.any([controller.signal]); controller.abort("why"); return [any.aborted, any.reason] })()`,
  microtasks: `(async () => { const log = []; setTimeout(() => log.push("timer")); queueMicrotask(() => log.push("microtask")); Promise.resolve().then(() => log.push("promise")); log.push("now"); await new Promise((resolve) => setTimeout(resolve, 1)); return log })()`,
  timers: `new Promise((resolve) => { let count = 0; const never = setTimeout(() => resolve("cleared timer fired"), 1); clearTimeout(never); const id = setInterval((step) => { count += step; if (count === 6) { clearInterval(id); setTimeout(() => resolve(count), 5) } }, 1, 2) })`,
  performance: `(() => { const a = performance.now(); const mark = performance.mark("m"); return [typeof a, mark.name, performance.getEntriesByName("m").length, performance.timeOrigin > 1e12] })()`,
  wasm: `(async () => { const bytes = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 1, 7, 1, 96, 2, 127, 127, 1, 127, 3, 2, 1, 0, 7, 7, 1, 3, 97, 100, 100, 0, 0, 10, 9, 1, 7, 0, 32, 0, 32, 1, 106, 11]); const { instance } = await WebAssembly.instantiate(bytes); return [instance.exports.add(2, 3), WebAssembly.validate(new Uint8Array(4))] })()`,
  fetchClasses: `(async () => { const request = new Request("http://x/", { method: "POST", body: "b", headers: { A: "1" } }); const response = Response.json({ a: 1 }, { status: 201 }); return [request.method, await request.text(), request.headers.get("a"), response.status, response.headers.get("content-type"), await response.json()] })()`,
  formData: `(async () => { const form = new FormData(); form.set("a", "1"); form.set("f", new File(["x"], "f.txt")); const copy = await new Response(form).formData(); return [copy.get("a"), copy.get("f").name, await copy.get("f").text()] })()`,
  byteStream: `(async () => { const stream = new ReadableStream({ type: "bytes", start(c) { c.enqueue(new Uint8Array([1, 2, 3])); c.close() } }); const reader = stream.getReader({ mode: "byob" }); const { value } = await reader.read(new Uint8Array(2)); return [...value] })()`,
  tee: `(async () => { const [a, b] = ReadableStream.from([1, 2]).tee(); return [await Array.fromAsync(a), await Array.fromAsync(b)] })()`,
  transform: `Array.fromAsync(ReadableStream.from([1, 2]).pipeThrough(new TransformStream({ transform(n, c) { c.enqueue(n * 10) } })))`,
  random: `[crypto.randomUUID().length, crypto.getRandomValues(new Uint8Array(16)).some((n) => n > 0), crypto.randomUUID() === crypto.randomUUID()]`,
  randomTooMuch: `crypto.getRandomValues(new Uint8Array(65537))`,
  digest: `(async () => { const out = []; for (const name of ["SHA-1", "SHA-256", "SHA-512"]) out.push(new Uint8Array(await crypto.subtle.digest(name, new TextEncoder().encode("abc"))).toHex().slice(0, 16)); return out })()`,
  hmac: `(async () => { const key = await crypto.subtle.importKey("raw", new Uint8Array(32), { name: "HMAC", hash: "SHA-256" }, false, ["sign", "verify"]); const data = new Uint8Array([1]); const mac = await crypto.subtle.sign("HMAC", key, data); return [mac.byteLength, await crypto.subtle.verify("HMAC", key, mac, data), key.extractable] })()`,
  ecdsa: `(async () => { const { privateKey, publicKey } = await crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, true, ["sign", "verify"]); const how = { name: "ECDSA", hash: "SHA-256" }; const data = new Uint8Array([1]); const signature = await crypto.subtle.sign(how, privateKey, data); return await crypto.subtle.verify(how, publicKey, signature, data) })()`,
  aes: `(async () => { const key = await crypto.subtle.generateKey({ name: "AES-GCM", length: 256 }, false, ["encrypt", "decrypt"]); const iv = new Uint8Array(12); const secret = await crypto.subtle.encrypt({ name: "AES-GCM", iv }, key, new Uint8Array([7])); return [...new Uint8Array(await crypto.subtle.decrypt({ name: "AES-GCM", iv }, key, secret))] })()`,
  domException: `(() => { const e = new DOMException("m", "AbortError"); return [e.name, e.code, e instanceof Error] })()`,
  reportError: `new Promise((resolve) => { addEventListener("error", (e) => { e.preventDefault(); resolve(e.message) }, { once: true }); reportError(new Error("mine")) })`,
  rejection: `new Promise((resolve) => { addEventListener("unhandledrejection", (e) => { e.preventDefault(); resolve(String(e.reason)) }, { once: true }); Promise.reject("nobody") })`,
  weak: `[new WeakRef({}).deref() !== undefined, typeof FinalizationRegistry]`,
  intl: `[new Intl.NumberFormat("de").format(1234.5), new Intl.DateTimeFormat("cs").format(new Date(0))]`,
  intlNumbersByRules: `[new Date(0).toLocaleDateString("ja-JP-u-ca-japanese", { dateStyle: "long" }), new Date(0).toLocaleDateString("zh-CN-u-ca-chinese", { dateStyle: "full" })]`,
};
for (const [name, code] of Object.entries(cases)) {
  const value = await guest.evaluate(code).catch((error) => `${error.name}: ${error.message}`);
  console.log(`${name}: ${JSON.stringify(value)}`);
}
guest.onSystem("error", (error) => console.log("uncaught", error));
guest.destroy();
