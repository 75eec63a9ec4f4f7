// The class form, several modules deep, with what bundles bring along.
import { env as shared, WorkerEntrypoint } from "cloudflare:workers";

interface Env {
  GREETING: string;
}

export default class extends WorkerEntrypoint<Env> {
  #count = 0;

  override async fetch(request: Request): Promise<Response> {
    this.#count++;
    const { pathname } = new URL(request.url);
    if (pathname === "/shared") return Response.json(shared === this.env);
    return new Response(`${this.env.GREETING} ${this.#count} ${pathname}`);
  }

  async greet(name: string): Promise<string> {
    return `${this.env.GREETING}, ${name}`;
  }
}
