// Notes in the state that all mirrors of this site share: what one has written, the other reads.
import { env } from 'cloudflare:workers';

const PREFIX = 'note:';
const DAYS = 24 * 60 * 60 * 1000;

export default {
  async fetch(request) {
    const url = new URL(request.url);
    if (url.pathname === '/api/notes' && request.method === 'GET') {
      return Response.json(await all());
    }
    if (url.pathname === '/api/notes' && request.method === 'POST') {
      const text = (await request.text()).trim();
      if (text === '') return new Response('a note has text\n', { status: 400 });
      const note = { id: `${Date.now()}-${crypto.randomUUID()}`, text, time: new Date().toISOString() };
      await env.STATE.put(PREFIX + note.id, note);
      return Response.json(note, { status: 201 });
    }
    const match = /^\/api\/notes\/([\w-]+)$/.exec(url.pathname);
    if (match !== null && request.method === 'DELETE') {
      const gone = await env.STATE.delete(PREFIX + match[1]);
      return new Response(null, { status: gone ? 204 : 404 });
    }
    return new Response('not found\n', { status: 404 });
  },

  // Called as env.notes.count() by sites that have a binding to this one.
  async count() {
    return (await all()).length;
  },

  // Called at the times of `crons`: notes older than a month go.
  async scheduled(event) {
    for (const note of await all()) {
      if (event.scheduledTime - Date.parse(note.time) > 30 * DAYS) {
        await env.STATE.delete(PREFIX + note.id);
      }
    }
  },
};

async function all() {
  const { keys } = await env.STATE.list({ prefix: PREFIX, limit: 1000 });
  const notes = await Promise.all(keys.map(({ key }) => env.STATE.get(key, { type: 'json' })));
  return notes.filter((note) => note !== null);
}
