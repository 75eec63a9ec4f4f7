import fs from "node:fs";
import fsp from "node:fs/promises";
import { pipeline } from "node:stream/promises";
import dns from "node:dns";

const R = "/files/OUT";
const lines = [];
const log = (...values) => lines.push(values.map((value) => JSON.stringify(value) ?? String(value)).join(" "));
const fails = (promise) =>
  promise.then(() => "done", ({ message, code, errno, syscall, path, dest }) => ({ message, code, errno, syscall, path, dest }));
const callback = (work) => new Promise((done) => work((...args) => done(args)));

export async function run() {
  // Whole files.
  log(await fsp.readdir("/"), await fsp.readdir("/files"), await fsp.readFile("/files/DOCS/hello.txt", "utf8"));
  await fsp.writeFile(`${R}/a.txt`, "hello");
  await fsp.appendFile(`${R}/a.txt`, " world");
  log(await fsp.readFile(`${R}/a.txt`, "utf8"), (await fsp.readFile(`${R}/a.txt`)).subarray(0, 2).toString("hex"));
  log(await fails(fsp.readFile(`${R}/none`)));
  log(await fails(fsp.writeFile(`${R}/x/y`, "")));
  log(await fails(fsp.writeFile("/files/DOCS/x", "")));
  log(await fails(fsp.writeFile(`${R}/a.txt`, "", { flag: "wx" })));
  // Folders.
  log(await fsp.mkdir(`${R}/x/y/z`, { recursive: true }), (await fsp.mkdir(`${R}/x/y/z`, { recursive: true })) ?? null);
  log(await fails(fsp.mkdir(`${R}/x`)));
  log(await fails(fsp.rmdir(`${R}/x`)));
  log(await fails(fsp.unlink(`${R}/x`)));
  await fsp.writeFile(`${R}/x/y/f`, "1");
  log(await fsp.readdir(R, { recursive: true }));
  log((await fsp.readdir(R, { withFileTypes: true })).map((entry) => [entry.name, entry.isDirectory(), entry.isFile()]));
  const found = await fsp.stat(`${R}/a.txt`);
  log(found.size, found.isFile(), found.isDirectory(), found.mtime instanceof Date, found.mode.toString(8));
  // Names.
  await fsp.rename(`${R}/a.txt`, `${R}/x/b.txt`);
  log(await fails(fsp.rename(`${R}/a.txt`, `${R}/c`)));
  log(await fails(fsp.rename(`${R}/x/b.txt`, "/files/SECOND/b")));
  await fsp.copyFile(`${R}/x/b.txt`, `${R}/copy`);
  await fsp.copyFile(`${R}/x/b.txt`, "/files/SECOND/copy");
  log(await fails(fsp.copyFile(`${R}/x/b.txt`, `${R}/copy`, fs.constants.COPYFILE_EXCL)));
  log(await fsp.realpath(`${R}/x/../copy`), /tmp-\w{6}$/.test(await fsp.mkdtemp(`${R}/x/tmp-`)));
  // Handles.
  const handle = await fsp.open(`${R}/h`, "w+");
  const buffer = new Uint8Array(4);
  log((await handle.write("abcdef")).bytesWritten, (await handle.write(new TextEncoder().encode("XY"), 0, 2, 1)).bytesWritten);
  log((await handle.read(buffer, 0, 4, 0)).bytesRead, Array.from(buffer), (await handle.stat()).size);
  await handle.truncate(3);
  await handle.close();
  log(await fsp.readFile(`${R}/h`, "latin1"), await fails(handle.read(buffer, 0, 1, 0)));
  log(await fails(fsp.open(`${R}/none`, "r+")));
  // Streams.
  const bytes = new Uint8Array(300_000).map((_, i) => i);
  const out = fs.createWriteStream(`${R}/big`);
  for (let i = 0; i < 3; i++) out.write(bytes.subarray(i * 100_000, (i + 1) * 100_000));
  await callback((done) => out.end(done));
  let read = 0;
  let same = true;
  for await (const part of fs.createReadStream(`${R}/big`)) for (const byte of part) same &&= byte === bytes[read++];
  const part = [];
  for await (const piece of fs.createReadStream(`${R}/big`, { start: 10, end: 13 })) part.push(...piece);
  await pipeline(fs.createReadStream(`${R}/big`), fs.createWriteStream(`${R}/big2`));
  log(read, same, part, (await fsp.stat(`${R}/big2`)).size);
  log(await callback((done) => fs.createReadStream(`${R}/nope`).on("error", (error) => done(error.code))));
  // Callbacks.
  log(await callback((done) => fs.readFile(`${R}/h`, "utf8", done)));
  const [, fd] = await callback((done) => fs.open(`${R}/h`, "r", done));
  log((await callback((done) => fs.read(fd, buffer, 0, 2, 0, done))).slice(0, 2), await callback((done) => fs.close(fd, done)));
  log((await callback((done) => fs.stat(`${R}/none`, done)))[0].code);
  // At once.
  for (const name of ["readFileSync", "writeFileSync", "existsSync", "statSync"]) {
    try {
      fs[name](`${R}/h`);
    } catch (error) {
      log(error.code, error.message);
    }
  }
  log(fs.existsSync("/etc/passwd"), fs.statSync("/etc/passwd", { throwIfNoEntry: false }) ?? null);
  // Out of the folders.
  for (const path of ["/etc/passwd", "/files/OUT/../../etc/passwd", "../etc/passwd", "/files/ELSE/x", "a\0b"]) {
    log(await fails(fsp.readFile(path)));
  }
  log((await fails(fsp.writeFile(`${R}/${"n".repeat(300)}`, ""))).code, (await fails(fsp.truncate(`${R}/h`, 2 ** 53))).code);
  // Changes.
  const stop = new AbortController();
  const changes = fsp.watch(`${R}/x`, { signal: stop.signal });
  const first = changes.next();
  let seen = false;
  const writing = (async () => {
    while (!seen) await fsp.writeFile(`${R}/x/watched`, "1");
  })();
  log((await first).value);
  seen = true;
  await writing;
  stop.abort();
  log((await fails(changes.next())).code);
  await fsp.rm(`${R}/x`, { recursive: true });
  log(await fsp.readdir(R), (await fails(fsp.rm(`${R}/x`))).code, await fails(fsp.rm(`${R}/x`, { force: true })));
  // Names of hosts, of which this guest has no grant.
  log((await fails(dns.promises.resolve4("example.com"))).message);
  log(await callback((done) => dns.lookup("db.example.com", done)));
  return lines;
}
