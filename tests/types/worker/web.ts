// The web platform's globals of a guest.

const timer: number = setTimeout((text: string) => console.log(text), 10, "later");
clearTimeout(timer);
clearInterval(setInterval(() => {}, 1_000));
queueMicrotask(() => {});

const response = await fetch("https://example.com", {
  method: "POST",
  headers: { a: "b" },
  body: new FormData(),
  signal: AbortSignal.any([AbortSignal.timeout(100), new AbortController().signal]),
});
for (const [name, value] of response.headers) console.log(name, value);
const bytes: Uint8Array<ArrayBuffer> = await response.clone().bytes();
await response.body?.pipeThrough(new DecompressionStream("gzip")).pipeThrough(new TextDecoderStream()).cancel();
const again = new Request("https://example.com", { body: new URLSearchParams({ a: "b" }) });
console.log(again.url, Response.json({ a: 1 }).status, bytes.length);

const socket = new WebSocket("wss://example.com", ["a"]);
socket.binaryType = "arraybuffer";
socket.onmessage = (event) => socket.send(String(event.data));
socket.addEventListener("close", ({ code, wasClean }) => console.log(code, wasClean), { once: true });

const digest: ArrayBuffer = await crypto.subtle.digest("SHA-256", new TextEncoder().encode("a"));
const key = await crypto.subtle.importKey("raw", digest, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
await crypto.subtle.sign("HMAC", key, crypto.getRandomValues(new Uint8Array(8)));
console.log(crypto.randomUUID(), btoa(atob("YQ==")), structuredClone({ a: new Date() }).a.getTime());

const url = new URL("/a?b=c", "https://example.com");
for (const [name, value] of url.searchParams) console.log(name, value);
const match = new URLPattern({ pathname: "/:id" }).exec(url.href);
console.log(match?.pathname.groups["id"], match?.inputs.length, URL.canParse("a"));

const file = new File(["a"], "a.txt", { type: "text/plain" });
const reader = new FileReader();
reader.onload = () => console.log(reader.result);
reader.addEventListener("error", (event) => console.log(event.loaded));
reader.readAsText(new Blob([file, bytes]));

const numbers = ReadableStream.from([1, 2]).pipeThrough(
  new TransformStream<number, string>({
    transform(chunk, controller) {
      controller.enqueue(chunk.toFixed());
    },
  }),
);
for await (const text of numbers) console.log(text.length);
const { readable, writable } = new CompressionStream("gzip");
await writable.getWriter().write(bytes);
const result = await readable.getReader().read();
if (!result.done) console.log(result.value.byteLength);

class Clock extends EventTarget {
  tick(): boolean {
    return this.dispatchEvent(new CustomEvent("tick", { detail: performance.now() }));
  }
}
new Clock().addEventListener("tick", (event) => console.log(event));
addEventListener("unhandledrejection", (event) => event.preventDefault());
self.addEventListener("error", ({ message, error }) => console.log(message, error));
const { port1, port2 } = new MessageChannel();
port1.onmessage = ({ data }) => console.log(data);
port2.postMessage({ a: 1 }, [new ArrayBuffer(1)]);
new BroadcastChannel("a").close();
try {
  AbortSignal.abort().throwIfAborted();
} catch (error) {
  if (error instanceof DOMException) console.log(error.name, error.code);
}

const { instance } = await WebAssembly.instantiate(bytes, { env: { log: console.log } });
console.log(instance.exports["main"](), new WebAssembly.Memory({ initial: 1 }).buffer.byteLength);
using stack = new DisposableStack();
stack.use(null);

// @ts-expect-error -- guests have no Deno
Deno.cwd();
// @ts-expect-error -- nor V8Sandbox
new V8Sandbox();
// @ts-expect-error -- nor what only browsers or workers have
document.title;
// @ts-expect-error -- as above
window.alert("a");
// @ts-expect-error -- as above
importScripts("a");
// @ts-expect-error -- as above
indexedDB.open("a");
// @ts-expect-error -- as above
localStorage.clear();
// @ts-expect-error -- as above
new Worker("a");
// @ts-expect-error -- as above
navigator.language;
// @ts-expect-error -- as above
postMessage("a");
// @ts-expect-error -- nor what Node.js has
process.env;
// @ts-expect-error -- as above
require("fs");
// @ts-expect-error -- text is asked for
atob(1);
// @ts-expect-error -- no such format
new CompressionStream("zip");
// @ts-expect-error -- not to be made by hand
new CryptoKey();
// @ts-expect-error -- a number
const wrong: string = setTimeout(() => {}, 1);
