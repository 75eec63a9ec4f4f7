// A site in the Workers form. `stockade serve` strips the types and runs it in a container.
import { greet } from './greet.ts';

interface Notes {
  count(): Promise<number>;
}

interface Env {
  GREETING: string;
  notes: Notes;
}

export default {
  async fetch(request: Request, env: Env): Promise<Response> {
    const url = new URL(request.url);
    const name = url.searchParams.get('name') ?? 'world';
    if (url.pathname.endsWith('/json')) {
      return Response.json({ greeting: greet(env.GREETING, name), notes: await env.notes.count() });
    }
    return new Response(`${greet(env.GREETING, name)}\n`);
  },
};
