// Guests answer HTTP at every level: requests of the script, and those of clients of a server.

const main = `
export default {
  async fetch(request, env, ctx) {
    const { pathname } = new URL(request.url);
    switch (pathname) {
      case "/hello":
        return Response.json({ by: env.NAME, of: request.headers.get("x-of"), navigator: navigator.userAgent });
      case "/echo":
        return new Response(request.body, { status: 201, statusText: "Made", headers: { "x-kind": "echo" } });
      case "/parts": {
        const parts = ["one ", "two ", "three"];
        return new Response(ReadableStream.from(parts).pipeThrough(new TextEncoderStream()));
      }
      case "/later":
        ctx.waitUntil(env.note("after the response"));
        return new Response(null, { status: 204 });
      case "/throw":
        throw new RangeError("no such page");
      case "/wrong":
        return "text";
      case "/wait":
        request.signal.addEventListener("abort", () => env.note("the client is gone"));
        env.note("waits");
        return await new Promise(() => {});
      case "/never":
        return await new Promise(() => {});
      case "/slow":
        return new Response(new ReadableStream({
          start(controller) {
            controller.enqueue(new Uint8Array([1]));
          },
          cancel() {
            env.note("the body is cancelled");
          },
        }));
      case "/socket": {
        const pair = new WebSocketPair();
        pair[1].accept();
        pair[1].addEventListener("message", ({ data }) => pair[1].send("echo of " + data));
        return new Response(null, { status: 101, webSocket: pair[0] });
      }
      case "/loop":
        for (;;);
    }
    return new Response("not found", { status: 404 });
  },
};
export const twice = (n) => 2 * n;
`;

const sandbox = new V8Sandbox({ cpuLimitMs: 1000 });
for (const isolation of ["thread", "process", "container"]) {
  console.log(`--- ${isolation}`);
  const notes = [];
  let noted = Promise.withResolvers();
  const nextNote = async () => {
    while (notes.length === 0) await noted.promise;
    return notes.shift();
  };
  const isolate = await sandbox.createIsolate({
    isolation,
    modules: { main },
    serve: { concurrentRequests: 4, maxBodyBytes: 200_000, responseTimeoutMs: 60_000 },
    env: {
      NAME: "a guest",
      note(text) {
        notes.push(text);
        noted.resolve();
        noted = Promise.withResolvers();
      },
    },
  });

  // Requests of the script.
  const hello = await isolate.fetch("http://guest/hello", { headers: { "x-of": "the script" } });
  console.log(hello.status, await hello.json());
  const bytes = new Uint8Array(150_000).map((_, i) => i);
  const halves = [bytes.subarray(0, 70_000), bytes.subarray(70_000)];
  const echo = await isolate.fetch("http://guest/echo", { method: "POST", body: ReadableStream.from(halves) });
  const back = new Uint8Array(await echo.arrayBuffer());
  console.log(echo.status, echo.headers.get("x-kind"), back.length, back.every((byte, i) => byte === bytes[i]));
  console.log(await (await isolate.fetch(new Request("http://guest/parts"))).text());
  console.log((await isolate.fetch("http://guest/later")).status, await nextNote());
  await isolate.fetch("http://guest/throw").catch(({ name, message }) => console.log(name, message));
  await isolate.fetch("http://guest/wrong").catch(({ message }) => console.log(message));
  const controller = new AbortController();
  const waits = isolate.fetch("http://guest/wait", { signal: controller.signal });
  console.log(await nextNote());
  controller.abort();
  await waits.catch(({ name }) => console.log(name));
  console.log(await nextNote());
  const body = new AbortController();
  const slow = await isolate.fetch("http://guest/slow", { signal: body.signal });
  const reader = slow.body.getReader();
  console.log((await reader.read()).value);
  body.abort();
  await reader.read().catch(() => console.log("the body failed"));
  console.log(await nextNote());
  console.log(await isolate.call("twice", 4));

  // Requests of clients.
  const errors = [];
  isolate.onSystem("error", ({ name, message }) => errors.push(`${name}: ${message}`));
  const server = await isolate.listen({ port: 0 });
  const base = `http://127.0.0.1:${server.addr.port}`;
  console.log(await (await fetch(`${base}/hello`, { headers: { "x-of": "a client" } })).json());
  const posted = await fetch(`${base}/echo`, { method: "POST", body: bytes });
  console.log(posted.status, (await posted.bytes()).every((byte, i) => byte === bytes[i]));
  console.log(await (await fetch(`${base}/parts`)).text());
  const failed = await fetch(`${base}/throw`);
  console.log(failed.status, (await failed.text()).includes("no such page"), errors);
  const large = await fetch(`${base}/echo`, { method: "POST", body: new Uint8Array(200_001) });
  console.log(large.status, await large.body.cancel());
  const gone = new AbortController();
  const abandoned = fetch(`${base}/slow`, { signal: gone.signal });
  await (await abandoned).body.getReader().read();
  gone.abort();
  console.log(await nextNote());
  const socket = new WebSocket(`${base.replace("http", "ws")}/socket`);
  await new Promise((resolve) => socket.onopen = resolve);
  socket.send("text");
  console.log((await new Promise((resolve) => socket.onmessage = resolve)).data);
  socket.close();

  // One request of four is `/wait`, which was given up and has not ended; with three more there is no room.
  const never = [1, 2, 3].map(() => fetch(`${base}/never`));
  const busy = async () => {
    for (;;) {
      const response = await fetch(`${base}/hello`);
      await response.body.cancel();
      if (response.status !== 200) return response;
    }
  };
  const refused = await busy();
  console.log(refused.status, refused.headers.get("retry-after"));
  await isolate.fetch("http://guest/hello").catch(({ name }) => console.log(name));

  // The end of the guest.
  isolate.destroy();
  console.log((await Promise.all(never)).map(({ status }) => status));
  console.log(await server.finished);
  await fetch(`${base}/hello`).catch(() => console.log("nothing listens"));
  await isolate.listen().catch(({ message }) => console.log(message));

  // Another one on the same port, which ends at a limit.
  const next = await sandbox.createIsolate({ isolation, modules: { main }, serve: true, cpuLimitMs: 200 });
  const again = await next.listen({ port: server.addr.port });
  console.log((await fetch(`${base}/loop`)).status);
  console.log((await again.finished).split(" ")[0]);
}

// A shutdown lets requests end, and the script goes on.
const last = await sandbox.createIsolate({
  serve: true,
  modules: { main: "export default { fetch: () => new Promise((resolve) => setTimeout(resolve, 50, new Response('in time'))) }" },
});
const server = await last.listen({ port: 0 });
const answer = fetch(`http://127.0.0.1:${server.addr.port}/`);
const [response] = await Promise.all([answer, answer.then(() => server.shutdown())]);
console.log(await response.text(), await server.finished, last.destroyed);

// Wrong options, and guests that do not serve.
await sandbox.createIsolate({ serve: 1 }).catch(({ message }) => console.log(message));
await sandbox.createIsolate({ serve: { concurrentRequests: 0 } }).catch(({ message }) => console.log(message));
await sandbox.createIsolate({ serve: { requests: 1 } }).catch(({ message }) => console.log(message.split(",")[0]));
await last.listen({ hostname: "example.com" }).catch(({ message }) => console.log(message));
await last.listen({ idleTimeoutMs: 0 }).catch(({ message }) => console.log(message));
const plain = await sandbox.createIsolate();
await plain.listen().catch(({ message }) => console.log(message));
await plain.fetch("http://guest/").catch(({ message }) => console.log(message));
const handlerless = await sandbox.createIsolate({ serve: true, modules: { main: "export default {}" } });
await handlerless.fetch("http://guest/").catch(({ message }) => console.log(message));
const broken = await sandbox.createIsolate({ serve: true, modules: { main: "throw new Error('does not load')" } });
await broken.fetch("http://guest/").catch(({ message }) => console.log(message));
sandbox.shutdown();
