/// <reference path="../../../types/stockade-serve.d.ts" />
// A site in the Workers form. `stockade serve` strips the types and runs it in a container.
import { greet } from './greet.ts';

interface Env {
  /** From `env` of stockade.yaml. */
  GREETING: string;
  /** From `bindings`: the other site, whose methods are called without the network. */
  notes: Service<{ count(): Promise<number> }>;
}

export default {
  async fetch(request, env) {
    const url = new URL(request.url);
    const greeting = greet(env.GREETING, url.searchParams.get('name') ?? 'world');
    if (url.pathname.endsWith('/json')) {
      return Response.json({ greeting, notes: await env.notes.count() });
    }
    return new Response(`${greeting}\n`);
  },
} satisfies ExportedHandler<Env>;
