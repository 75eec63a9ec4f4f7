// What guests do in earnest, so that every system call that a worker may make is made. Prints `done` only if
// all of it worked.
const [isolation, wx] = Deno.args;
// Traced, everything takes long.
const unlimited = { isolation, wx, cpuLimitMs: 0, wallLimitMs: 0, requestTimeoutMs: 0 };
const sandbox = new V8Sandbox(unlimited);

const work = `
  const assert = (what, holds) => { if (!holds) throw new Error(what); };
  const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  async function crypto_() {
    const random = crypto.getRandomValues(new Uint8Array(65536));
    assert("random", new Set(random).size > 200 && crypto.randomUUID().length === 36);
    for (const hash of ["SHA-1", "SHA-256", "SHA-512"]) await crypto.subtle.digest(hash, random);
    const aes = await crypto.subtle.generateKey({ name: "AES-GCM", length: 256 }, true, ["encrypt", "decrypt"]);
    const iv = crypto.getRandomValues(new Uint8Array(12));
    const secret = await crypto.subtle.encrypt({ name: "AES-GCM", iv }, aes, random);
    assert("aes", new Uint8Array(await crypto.subtle.decrypt({ name: "AES-GCM", iv }, aes, secret))[7] === random[7]);
    const pair = await crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, true, ["sign", "verify"]);
    const how = { name: "ECDSA", hash: "SHA-256" };
    const signature = await crypto.subtle.sign(how, pair.privateKey, random);
    assert("ecdsa", await crypto.subtle.verify(how, pair.publicKey, signature, random));
    const hmac = await crypto.subtle.generateKey({ name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
    await crypto.subtle.sign("HMAC", hmac, random);
    await crypto.subtle.generateKey(
      { name: "RSASSA-PKCS1-v1_5", modulusLength: 2048, publicExponent: new Uint8Array([1, 0, 1]), hash: "SHA-256" },
      false, ["sign", "verify"]);
  }
  async function streams() {
    const bytes = new Uint8Array(4 << 20).map((_, i) => i * i);
    for (const format of ["gzip", "deflate", "deflate-raw"]) {
      const packed = new Blob([bytes]).stream().pipeThrough(new CompressionStream(format));
      const back = await new Response(packed.pipeThrough(new DecompressionStream(format))).arrayBuffer();
      assert(format, back.byteLength === bytes.length);
    }
    const text = await new Response(new Blob(["ä".repeat(1e6)]).stream().pipeThrough(new TextDecoderStream())
      .pipeThrough(new TextEncoderStream())).text();
    assert("text", text.length === 1e6);
  }
  function texts() {
    assert("regexp", "x".repeat(1e5).replace(/(x)(?=x)/gu, "$1y").length === 2e5 - 1);
    const regexps = [];
    for (let i = 0; i < 300; i++) regexps.push(new RegExp("(a|b)*c{" + i % 9 + "}" + i, "u").test("abab" + i));
    assert("locale", (1234.5).toLocaleString("de-DE") === "1.234,5");
    new Intl.DateTimeFormat("ja-JP", { dateStyle: "full", timeZone: "Asia/Tokyo" }).format(0);
    "aäz".normalize("NFD").localeCompare("b", "sv");
    assert("json", JSON.stringify(JSON.parse("[" + "{\\"a\\":[1,2,3]},".repeat(1e5) + "1]")).length > 1e6);
    assert("url", new URL("../x?y=1#z", "https://exämple.com/a/b/").host === "xn--exmple-cua.com");
    structuredClone(new Map([[1, new Date()], [2, /x/g], [3, new Uint8Array(1e6)]]));
  }
  function memory() {
    // Old space, large objects, array buffers, and giving it back.
    for (let round = 0; round < 6; round++) {
      let keep = [];
      for (let i = 0; i < 40_000; i++) keep.push({ i, text: "t" + i, list: [i, i + 1, [i]] });
      keep.push(new Array(2e6).fill(1.5), new ArrayBuffer(32 << 20), "ab".repeat(4e6).split("a").length);
      keep = null;
    }
    const buffer = new ArrayBuffer(1 << 20, { maxByteLength: 64 << 20 });
    for (let size = 2; size <= 64; size *= 2) buffer.resize(size << 20);
    buffer.resize(0);
    const grown = new ArrayBuffer(1 << 20).transfer(8 << 20).transfer(64 << 20).transfer(1 << 20);
    let formData = new FormData();
    for (let i = 0; i < 2000; i++) formData.append("k" + i, "v".repeat(1000));
    new URLSearchParams("a=b&".repeat(1e5)).toString();
    // Strings outside the heap that grow as they are made.
    let encoded = new TextEncoder().encode("ä".repeat(8e6));
    new TextDecoder().decode(encoded);
    atob(btoa("x".repeat(3e6)));
    assert("memory", grown.byteLength === 1 << 20);
  }
  function compute() {
    // Long enough for every compiler there is, and for the collectors that run concurrently.
    let sum = 0;
    const functions = [];
    for (let i = 0; i < 60; i++) functions.push(new Function("x", "let s = 0; for (let j = 0; j < 30000; j++) s += j * x % " + (i + 7) + "; return s"));
    for (let round = 0; round < 5; round++) for (const f of functions) sum += f(round);
    const map = new Map();
    for (let i = 0; i < 3e5; i++) map.set("k" + i % 5000, { i });
    [...map.values()].sort((a, b) => b.i - a.i);
    assert("bigint", (3n ** 20000n).toString().length === 9543);
    return sum;
  }
  async function wasm() {
    if (typeof WebAssembly === "undefined") return;
    // (module (memory (export "m") 1 1000) (func (export "f") (param i32) (result i32) local.get 0 i32.const 3 i32.mul))
    const bytes = new Uint8Array([0,97,115,109,1,0,0,0,1,6,1,96,1,127,1,127,3,2,1,0,5,5,1,1,1,232,7,7,9,2,1,109,2,0,1,102,0,0,10,9,1,7,0,32,0,65,3,108,11]);
    const { instance } = await WebAssembly.instantiate(bytes);
    let sum = 0;
    for (let i = 0; i < 1e6; i++) sum = (sum + instance.exports.f(i)) | 0;
    for (let i = 0; i < 6; i++) instance.exports.m.grow(100);
  }
  async function timers() {
    for (let i = 0; i < 5; i++) await sleep(i * 7);
    let count = 0;
    await new Promise((resolve) => { const id = setInterval(() => { if (++count === 4) { clearInterval(id); resolve(); } }, 3); });
    performance.mark("m"); performance.now(); new Date().getTimezoneOffset();
    AbortSignal.timeout(5);
    await new Promise((resolve) => { const c = new MessageChannel(); c.port2.onmessage = () => { c.port2.close(); resolve(); }; c.port1.postMessage({ a: 1 }); });
  }
  async function messages() {
    for (let i = 0; i < 3000; i++) NETWORK.send("many", { i, text: "x".repeat(i % 500) });
    NETWORK.send("large", new Uint8Array(6 << 20));
    assert("echo", (await NETWORK.request("echo", new Uint8Array(3 << 20))).length === 3 << 20);
    const answers = await Promise.all(Array.from({ length: 200 }, (_, i) => NETWORK.request("echo", i)));
    assert("answers", answers.at(-1) === 199);
    const response = await fetch("https://example.com/", { method: "POST", body: ReadableStream.from(["a", "b"]).pipeThrough(new TextEncoderStream()), duplex: "half" });
    assert("fetch", (await response.text()).length === 3e6);
    for (let i = 0; i < 50; i++) console.log("line", i, { deep: [1, [2, [3]]] });
    Promise.reject(new Error("a rejection"));
    reportError(new Error("an error"));
  }
  async function all() {
    for (const part of [crypto_, streams, texts, memory, compute, wasm, timers, messages]) await part();
    return "all";
  }`;

async function guest(options = {}) {
  const isolate = await sandbox.createIsolate({ console: "event", modules: { m: "export default 7" }, ...options });
  isolate.onSystem("error", () => {}).onSystem("console", () => {});
  isolate.onSystem("terminated", ({ reason, detail }) => isolate.termination = `${reason} ${detail}`);
  isolate.on("many", () => {}).on("large", () => {});
  isolate.onRequest("echo", (data) => data);
  isolate.onRequest("fetch", async ({ body }) => {
    await new Response(body).text();
    return { status: 200, body: ReadableStream.from(["x".repeat(1e6), "y".repeat(1e6), "z".repeat(1e6)]) };
  });
  isolate.execute(work);
  return isolate;
}
const check = (what, value) => {
  if (!value) throw new Error(what);
};

const first = await guest();
check("all", await first.evaluate("all()") === "all");
check("import", await first.evaluate(`import("m").then((m) => m.default)`) === 7);
// Messages while it computes, and ones that fill its socket.
first.execute(`let s = 0; for (let i = 0; i < 1e7; i++) s += i; NETWORK.on("in", () => {})`);
for (let i = 0; i < 40; i++) {
  first.send("in", new Uint8Array(1 << 20));
  await first.drain();
}
check("still there", await first.evaluate("1") === 1);
first.destroy();

// Two that share a worker; one is ended by the other's side.
const [a, b] = [await guest({ group: "g" }), await guest({ group: "g" })];
check("group", (await Promise.all([a.evaluate("all()"), b.evaluate("all()")])).join() === "all,all");
a.destroy();
check("left over", await b.evaluate("2") === 2);
b.destroy();

// Those that their limits end.
async function ends(options, code) {
  const isolate = await guest(options);
  const ended = new Promise((resolve) => isolate.onSystem("terminated", ({ reason }) => resolve(reason)));
  isolate.execute(code);
  return await ended;
}
check("cpu", await ends({ cpuLimitMs: 300 }, "for (;;);") === "cpu_limit_exceeded");
check("memory", await ends({ memoryLimitMb: 64 }, "let a = []; for (;;) a.push(new Array(1e5).fill(a))") === "memory_limit_exceeded");
check("in a group", await ends({ cpuLimitMs: 300, group: "h" }, "for (;;);") === "cpu_limit_exceeded");

// One that is slowed, and one that waits for others.
const slow = await guest({ cpuShare: 0.2, memoryLimitMb: 300, ioOpsPerSecond: 500, sharedArrayBuffer: true });
await slow.evaluate(`compute(); Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 30)`);
await slow.evaluate(`for (let i = 0; i < 600; i++) NETWORK.send("many", i)`);
slow.destroy();
console.log("done");
sandbox.shutdown();
