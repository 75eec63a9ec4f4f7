// A guest may leave as many responses unread as it likes, and their senders learn of it: redirects that it
// followed, answers that came too late, responses that it dropped. The bound is on those it can still read.
const sandbox = new V8Sandbox({ cpuLimitMs: 20_000, cpuTotalMs: 0 });
const guest = await sandbox.createIsolate({ requestTimeoutMs: 60_000 });
let open = 0;
let late;
const body = () => {
  open++;
  return new ReadableStream({
    pull: (controller) => controller.enqueue(new Uint8Array(100)),
    cancel: () => void open--,
  }, { highWaterMark: 0 });
};
guest.onRequest("fetch", async ({ url }, { signal }) => {
  switch (new URL(url).pathname) {
    case "/to":
      return { status: 302, headers: { location: "/here" }, body: body() };
    case "/here":
      return { status: 200, body: "here" };
    case "/late":
      // It is answered when the guest has given it up.
      await new Promise((resolve) => signal.onabort = resolve);
      return { status: 200, body: body() };
    default:
      return { status: 200, body: body() };
  }
});
const ask = (code) => guest.evaluate(`(async () => { ${code} })()`).catch((error) => `${error.name}: ${error.message}`);
const COUNT = 1500;
console.log("redirects:", await ask(`let last; for (let i = 0; i < ${COUNT}; i++) last = await (await fetch("http://a.test/to")).text(); return last`));
console.log("refused:", await ask(`let failed = 0; for (let i = 0; i < ${COUNT}; i++) await fetch("http://a.test/to", { redirect: "error" }).catch(() => failed++); return failed`));
console.log("aborted:", await ask(`let failed = 0; for (let i = 0; i < 100; i++) { const c = new AbortController(); const p = fetch("http://a.test/late", { signal: c.signal }).catch(() => failed++); await new Promise((done) => setTimeout(done)); c.abort(); await p } return failed`));
console.log("dropped:", await ask(`let got = 0; for (let i = 0; i < ${COUNT}; i++) got += (await fetch("http://a.test/unread")).status; return got`));
console.log("cloned and half read:", await ask(`let got = 0; for (let i = 0; i < 300; i++) { const r = await fetch("http://a.test/unread"); got += (await r.clone().body.getReader().read()).value.length } return got`));
// What it still can read stays whole, however much is collected.
console.log("kept:", await ask(`const kept = []; for (let i = 0; i < 60; i++) kept.push(await fetch("http://a.test/unread")); let read = 0; for (const r of kept) { const reader = r.body.getReader(); read += (await reader.read()).value.length; await reader.cancel() } return read`));
console.log("held:", await ask(`globalThis.held = []; try { for (;;) held.push(await fetch("http://a.test/unread")) } catch (error) { const count = held.length; held.length = 0; return [error.message, count > 900] }`));
console.log("after that:", await ask(`for (;;) { try { return (await fetch("http://a.test/unread")).status } catch { await new Promise((done) => setTimeout(done)) } }`));
console.log("senders left:", open <= 1024);
sandbox.shutdown();
