import { env } from "cloudflare:workers";
import { greet } from "./greet";
import { nobody } from "./other.ts";
import hono from "hono";
export default { fetch: () => new Response(greet(nobody, hono, env)) };
