// An application as itty-router's documentation writes it.
import { AutoRouter, cors, error, html, json, status, StatusError, text, withContent, withParams } from "itty-router";

const { preflight, corsify } = cors({ origin: "https://client.example", credentials: true });

const router = AutoRouter({ base: "/v1", before: [preflight], finally: [corsify] });

router
  .get("/", () => "root")
  .get("/todos/:id", ({ params, query }) => ({ id: params.id, query }))
  .post("/todos", withContent, ({ content }) => json({ made: content }, { status: 201 }))
  .get("/env", (_request, env, ctx) => ({ greeting: env.GREETING, waits: typeof ctx.waitUntil }))
  .get("/html", () => html("<p>itty</p>"))
  .get("/text", () => text("plain", { headers: { "x-a": "1" } }))
  .get("/none", () => status(204))
  .get("/error", () => error(403, "not you"))
  .get("/throws", () => {
    throw new StatusError(418, "short");
  })
  .get("/files/:path+", withParams, ({ path }) => text(path))
  .all("*", () => error(404));

export default { ...router };
