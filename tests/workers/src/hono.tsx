// An application as hono's documentation writes it for Cloudflare's Workers.
import { Hono } from "hono";
import { basicAuth } from "hono/basic-auth";
import { cache } from "hono/cache";
import { compress } from "hono/compress";
import { contextStorage, getContext } from "hono/context-storage";
import { getCookie, setCookie, setSignedCookie, getSignedCookie } from "hono/cookie";
import { cors } from "hono/cors";
import { csrf } from "hono/csrf";
import { etag } from "hono/etag";
import { HTTPException } from "hono/http-exception";
import { jwt, sign } from "hono/jwt";
import { logger } from "hono/logger";
import { poweredBy } from "hono/powered-by";
import { prettyJSON } from "hono/pretty-json";
import { requestId } from "hono/request-id";
import { secureHeaders } from "hono/secure-headers";
import { stream, streamSSE, streamText } from "hono/streaming";
import { timing, setMetric } from "hono/timing";
import { validator } from "hono/validator";
import { getRuntimeKey, env } from "hono/adapter";
import { upgradeWebSocket } from "hono/cloudflare-workers";
import { bodyLimit } from "hono/body-limit";

type Bindings = { GREETING: string; STATE: StateNamespace };
const SECRET = "a secret of the tests";

const app = new Hono<{ Bindings: Bindings }>();
app.use("*", requestId(), logger(), poweredBy());
app.use("/safe/*", secureHeaders(), timing());
app.use("/api/*", cors({ origin: "https://client.example", credentials: true }), prettyJSON());
app.use("/etag/*", etag());
app.use("/zip/*", compress());
app.use("/auth/*", basicAuth({ username: "user", password: "pass" }));
app.use("/jwt/*", jwt({ secret: SECRET, alg: "HS256" }));
app.use("/form", csrf());
app.use("/context/*", contextStorage());
app.use("/small", bodyLimit({ maxSize: 10 }));

app.get("/", (c) => c.text(`${c.env.GREETING} from ${getRuntimeKey()} ${env(c).GREETING}`));
app.get("/users/:id{[0-9]+}", (c) => c.json({ id: c.req.param("id"), q: c.req.query("q"), all: c.req.queries("a") }));
app.post("/api/echo", async (c) => c.json(await c.req.json(), 201));
app.post("/form", async (c) => {
  const body = await c.req.parseBody();
  const file = body.file as File;
  return c.text(`${body.name} ${file.name} ${file.size} ${await file.text()}`);
});
app.post("/small", async (c) => c.text(await c.req.text()));
app.post(
  "/validated",
  validator("json", (value, c) => typeof value.n === "number" ? { n: value.n } : c.text("n is a number", 400)),
  (c) => c.json({ twice: c.req.valid("json").n * 2 }),
);
app.get("/safe/page", (c) => {
  setMetric(c, "region", "eu");
  return c.html("<p>safe</p>");
});
app.get("/etag/page", (c) => c.text("tagged"));
app.get("/zip/page", (c) => c.text("zip ".repeat(1000)));
app.get("/auth/page", (c) => c.text("in"));
app.get("/token", async (c) => c.text(await sign({ sub: "me", exp: Math.floor(Date.now() / 1000) + 60 }, SECRET)));
app.get("/jwt/page", (c) => c.json(c.get("jwtPayload").sub));
app.get("/cookies", async (c) => {
  setCookie(c, "plain", "1", { path: "/", httpOnly: true });
  await setSignedCookie(c, "signed", "2", SECRET);
  return c.text(`${getCookie(c, "old")} ${await getSignedCookie(c, SECRET, "signed")}`);
});
app.get("/stream", (c) => stream(c, async (out) => {
  for (let n = 0; n < 3; n++) {
    await out.write(`part ${n}\n`);
    await out.sleep(5);
  }
}));
app.get("/text", (c) => streamText(c, async (out) => {
  await out.writeln("one");
  await out.writeln("two");
}));
app.get("/events", (c) => streamSSE(c, async (out) => {
  for (let n = 0; n < 3; n++) await out.writeSSE({ data: `n=${n}`, event: "tick", id: String(n) });
}));
app.get("/endless", (c) => streamText(c, async (out) => {
  out.onAbort(() => console.log("client gone"));
  while (!out.aborted) {
    await out.writeln("more");
    await out.sleep(5);
  }
}));
app.get("/later", (c) => {
  c.executionCtx.waitUntil(c.env.STATE.put("later", "done"));
  return c.body(null, 204);
});
app.get("/state", async (c) => c.text(String(await c.env.STATE.get("later"))));
app.get("/ws", upgradeWebSocket(() => ({
  onMessage: (event, ws) => ws.send(`re: ${event.data}`),
  onClose: () => console.log("socket closed"),
})));
app.get("/jsx", (c) => c.html(<main><h1 class="x">{"<Hi>"}</h1>{[1, 2].map((n) => <i>{n}</i>)}</main>));
app.get("/context/:id", async (c) => {
  for (let n = 0; n < 3; n++) await new Promise((resolve) => setTimeout(resolve, 1));
  return c.text(getContext().req.path);
});
app.get("/moved", (c) => c.redirect("/text", 301));
app.get("/teapot", () => {
  throw new HTTPException(418, { message: "short and stout" });
});
app.get("/throws", () => {
  throw new Error("a bug");
});
app.get("/clone", async (c) => {
  await new Promise((resolve) => setTimeout(resolve, 1));
  c.header("x-after", "1");
  const response = new Response("body", { headers: { "x-own": "2" } });
  response.headers.append("set-cookie", "a=1");
  response.headers.append("set-cookie", "b=2");
  return response;
});
app.mount("/mounted", (request: Request) => new Response(new URL(request.url).pathname));
app.route("/sub", new Hono().get("/page", (c) => c.text(`sub ${c.req.path}`)).all("*", (c) => c.text(c.req.method)));
app.notFound((c) => c.json({ missing: c.req.path }, 404));
app.onError((error, c) => error instanceof HTTPException ? error.getResponse() : c.text(`caught ${error.message}`, 500));

void cache;
export default app;
