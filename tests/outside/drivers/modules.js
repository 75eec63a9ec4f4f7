// Calls of Node's modules, by name. The same file runs in a site and in Node, and both must give the same.

import assert from "node:assert";
import { Buffer } from "node:buffer";
import crypto from "node:crypto";
import events from "node:events";
import net from "node:net";
import path from "node:path";
import querystring from "node:querystring";
import stream from "node:stream";
import { StringDecoder } from "node:string_decoder";
import timers from "node:timers/promises";
import url from "node:url";
import util from "node:util";
import zlib from "node:zlib";

const cases = {
  md5: () => crypto.createHash("md5").update("héllo").update(Buffer.from([1,2])).digest("hex"),
  sha1: () => crypto.createHash("SHA1").update("x").digest("base64"),
  sha256: () => crypto.createHash("sha256").update("x","latin1").digest("base64url"),
  sha384: () => crypto.createHash("sha384").digest("hex"),
  rip: () => crypto.createHash("ripemd160").update("a").digest("hex"),
  copy: () => { const h = crypto.createHash("sha256").update("a"); const c = h.copy(); return [h.update("b").digest("hex"), c.digest("hex")]; },
  twice: () => { const h = crypto.createHash("md5"); h.digest(); return h.digest(); },
  bad: () => crypto.createHash("nope"),
  hmac: () => crypto.createHmac("sha512", "key").update("data").digest("hex"),
  hmacbuf: () => crypto.createHmac("sha1", Buffer.alloc(200, 7)).update(Buffer.from("q")).digest("hex"),
  pb: () => crypto.pbkdf2Sync("pw", "salt", 1000, 40, "sha256").toString("hex"),
  pba: () => util.promisify(crypto.pbkdf2)("pw", Buffer.from("salt"), 10, 20, "sha1").then(b => b.toString("hex")),
  pbmd5: () => util.promisify(crypto.pbkdf2)("pw", "salt", 10, 20, "md5").then(b => b.toString("hex")),
  rb: () => crypto.randomBytes(100000).length,
  ri: () => { const n = crypto.randomInt(5, 10); return n >= 5 && n < 10; },
  tse: () => crypto.timingSafeEqual(Buffer.from("a"), Buffer.from("b")),
  tseL: () => crypto.timingSafeEqual(Buffer.from("a"), Buffer.from("bb")),
  uuid: () => crypto.randomUUID().length,
  b1: () => Buffer.from("héé€😀 long long long text beyond").toString(),
  b2: () => Buffer.from("aGk", "base64").toString(),
  b3: () => Buffer.from("aGk_-w", "base64url").toString("hex"),
  b4: () => Buffer.from("ff00zz", "hex").length,
  b5: () => Buffer.from([0xff, 0xfe, 65]).toString("utf8"),
  b6: () => Buffer.from("日本語テキスト日本語テキスト").toString("utf8", 3, 33),
  b7: () => Buffer.alloc(5, "ab").toString("latin1"),
  b8: () => Buffer.byteLength("é€"),
  b9: () => Buffer.concat([Buffer.from("a"), Buffer.from("b")], 3).toString("hex"),
  b10: () => Buffer.from("abc").equals(Buffer.from("abc")),
  b11: () => Buffer.from("abcabc").indexOf("ca"),
  b12: () => { const b = Buffer.alloc(8); b.writeBigInt64LE(-5n); b.writeDoubleBE; return b.readBigInt64LE().toString() + b.readUInt32BE(4); },
  b13: () => Buffer.from("x").toJSON(),
  b14: () => JSON.stringify(Buffer.from("test")),
  b15: () => Buffer.from("a\uD800b").toString("hex"),
  b16: () => Buffer.from("AAECAwQFBgcICQoLDA0ODw==", "base64").toString("base64"),
  b17: () => Buffer.from("é".repeat(40), "latin1").toString("hex"),
  b18: () => Buffer.from("test").subarray(1, 3).toString(),
  b19: () => Buffer.isEncoding("utf-8") + "" + Buffer.isEncoding("base64url") + Buffer.isEncoding("nope"),
  b20: () => Buffer.compare(Buffer.from("a"), Buffer.from("b")),
  b21: () => Buffer.from("ab").readUIntBE(0, 2),
  b22: () => { const b = Buffer.alloc(10); return b.write("héllo", 2) + b.toString("hex"); },
  b23: () => Buffer.from("hello world this is long enough").utf8Slice(0, 5),
  b24: () => Buffer.from("0123456789abcdef0123456789abcdef").latin1Slice(2, 30),
  b25: () => { const b = Buffer.alloc(20); b.utf8Write("abc", 3); return b.toString("hex"); },
  f1: () => util.format("%s %d %j %%", "a", 1, { a: 1 }),
  f2: () => util.format("%s", "x", "y"),
  i2: () => util.inspect([1, "a", null]),
  i4: () => util.isDeepStrictEqual({ a: [1, new Map([[1, { b: 2 }]])] }, { a: [1, new Map([[1, { b: 2 }]])] }),
  i5: () => util.isDeepStrictEqual([1], ["1"]),
  t1: () => [util.types.isDate(new Date()), util.types.isPromise(Promise.resolve()), util.types.isUint8Array(new Uint8Array()), util.types.isRegExp(/a/), util.types.isMap(new Map())],
  cb: () => new Promise(r => util.callbackify(async x => x + 1)(1, (e, v) => r(v))),
  inh: () => { function A() {} function B() {} util.inherits(A, B); return new A() instanceof B; },
  u1: () => { const { protocol, auth, host, hostname, port, pathname, search, query, hash, path } = url.parse("postgres://us%20er:p%40w@Db.Example:5432/name?x=1&y=2#h"); return { protocol, auth, host, hostname, port, pathname, search, query, hash, path }; },
  u2: () => { const { protocol, hostname, port, pathname, query } = url.parse("redis://localhost:6379/1", true); return { protocol, hostname, port, pathname, q: JSON.stringify(query) }; },
  u3: () => { const { host, pathname, path, protocol } = url.parse("/a/b?c"); return { host, pathname, path, protocol }; },
  u4: () => url.format({ protocol: "http", hostname: "a", port: 80, pathname: "/x", query: { a: 1 } }),
  u5: () => url.resolve("http://a/b/c", "../d"),
  u6: () => url.resolve("/one/two", "three"),
  u7: () => url.fileURLToPath("file:///a%20b"),
  u8: () => url.parse("http://[::1]:80/").hostname,
  u9: () => url.parse("mongodb://a.example").pathname,
  u10: () => url.parse("https://a.example").pathname,
  u11: () => url.pathToFileURL("/a b%").href,
  z1: () => zlib.inflateSync(zlib.deflateSync(Buffer.from("abc".repeat(1000)))).toString().length,
  z2: () => zlib.gunzipSync(zlib.gzipSync("héllo")).toString(),
  z3: () => util.promisify(zlib.inflate)(zlib.deflateSync("q")).then(String),
  z4: () => util.promisify(zlib.gunzip)(Buffer.from("bad data")).then(String),
  z5: () => new Promise((ok, no) => { const p = []; const s = zlib.createGunzip(); s.on("data", d => p.push(d)).on("end", () => ok(Buffer.concat(p).toString().length)).on("error", no); s.end(zlib.gzipSync("x".repeat(100000))); }),
  z6: () => zlib.inflateRawSync(zlib.deflateRawSync("raw")).toString(),
  z7: () => util.promisify(zlib.deflate)("zz").then(b => zlib.inflateSync(b).toString()),
  z8: () => zlib.inflateSync(Buffer.from("nope")),
  p1: () => path.resolve("/a", "../b", "c.txt"),
  p2: () => [path.basename("/x/y.js", ".js"), path.extname("a.b.c"), path.relative("/a/b", "/a/c"), path.isAbsolute("a")],
  q1: () => querystring.parse("a=1&b=2&a=3"),
  q2: () => querystring.stringify({ a: [1, 2], b: "x y" }),
  e1: () => { const e = new events.EventEmitter(); const log = []; e.once("a", x => log.push(x)); e.prependListener("a", () => log.push("p")); e.emit("a", 1); e.emit("a", 2); return log; },
  e2: () => { new events.EventEmitter().emit("error", new Error("x")); },
  e3: async () => { const e = new events.EventEmitter(); setTimeout(() => { e.emit("x", 1); e.emit("x", 2); }, 1); const r = []; for await (const [v] of events.on(e, "x")) { r.push(v); if (r.length === 2) break; } return r; },
  e4: () => events.once(Object.assign(new events.EventEmitter()), "x", { signal: AbortSignal.abort() }).catch(e => e.name),
  e5: () => { const e = new events.EventEmitter(); const seen = []; e.on(events.errorMonitor, x => seen.push(x.message)); e.on("error", () => {}); e.emit("error", new Error("m")); return seen; },
  s1: async () => { const p = []; await stream.promises.pipeline(stream.Readable.from(["a", "b"]), new stream.Transform({ transform(c, e, d) { d(null, c.toString().toUpperCase()); } }), new stream.Writable({ write(c, e, d) { p.push(c.toString()); d(); } })); return p; },
  s2: () => new Promise(r => stream.finished(stream.Readable.from([]).resume(), e => r(e ?? "ok"))),
  s3: async () => { let t = ""; for await (const c of stream.Readable.from(["x", "y"])) t += c; return t; },
  s4: async () => { const r = stream.Readable.toWeb(stream.Readable.from([Buffer.from("ab")])); return Buffer.from((await r.getReader().read()).value).toString(); },
  s5: () => { const d = new StringDecoder("utf8"); return d.write(Buffer.from([0xe2, 0x82])) + d.write(Buffer.from([0xac])) + d.end(); },
  a1: () => { try { assert.deepStrictEqual({ a: 1 }, { a: 2 }); } catch (e) { return [e.name, e.code]; } },
  a2: () => { assert(false); },
  a3: () => assert.throws(() => { throw new TypeError("x"); }, TypeError),
  a4: () => assert.equal(1, "1"),
  n1: () => [net.isIP("1.2.3.4"), net.isIP("::1"), net.isIP("1.2.3"), net.isIP("a::b::c"), net.isIPv4("256.1.1.1"), net.isIPv6("fe80::1%eth0"), net.isIP("")],
  tm: () => timers.setTimeout(1, "v"),
  tm2: () => timers.setTimeout(10000, "v", { signal: AbortSignal.abort() }).catch(e => e.name),
};

const run = async (work) => {
  try {
    return await work();
  } catch (error) {
    return `error ${error.code ?? error.name}`;
  }
};

export default async () => {
  const given = {};
  for (const [name, work] of Object.entries(cases)) given[name] = (await run(work)) ?? null;
  return given;
};
