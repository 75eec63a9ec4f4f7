// A web server and its client in one script.
const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, async (request, info) => {
  const url = new URL(request.url);
  switch (url.pathname) {
    case "/json":
      return Response.json({ method: request.method, agent: request.headers.get("user-agent") });
    case "/echo":
      return new Response(request.body, { headers: { "x-type": request.headers.get("content-type") } });
    case "/stream":
      return new Response(ReadableStream.from(["a", "b", "c"]).pipeThrough(new TextEncoderStream()));
    case "/redirect":
      return Response.redirect(new URL("/json", url));
    case "/form": {
      const form = await request.formData();
      return new Response([...form.keys()].join());
    }
    case "/peer":
      return new Response(info.remoteAddr.hostname);
    default:
      throw new Error("handled by the server");
  }
});
const base = `http://127.0.0.1:${server.addr.port}`;
console.log(await (await fetch(`${base}/json`)).json());
const echo = await fetch(`${base}/echo`, { method: "POST", body: "text" });
console.log(await echo.text(), echo.headers.get("x-type"));
console.log(await (await fetch(`${base}/stream`)).text());
const redirected = await fetch(`${base}/redirect`);
console.log(redirected.redirected, new URL(redirected.url).pathname);
const form = new FormData();
form.set("file", new Blob(["x"]), "name.txt");
console.log(await (await fetch(`${base}/form`, { method: "POST", body: form })).text());
console.log(await (await fetch(`${base}/peer`)).text());
const failed = await fetch(`${base}/other`);
console.log(failed.status, await failed.text());
const controller = new AbortController();
controller.abort();
await fetch(base, { signal: controller.signal }).catch((error) => console.log(error.name));
await fetch("http://127.0.0.1:1/").catch((error) => console.log(error.name));
await server.shutdown();
await server.finished;
console.log("down");
