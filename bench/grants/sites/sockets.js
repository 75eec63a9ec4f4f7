// Does one task over connections to a server, and says how many milliseconds it took.
import { connect } from "cloudflare:sockets";

const PIECE = 64 * 1024;

const tasks = {
  async send(to, bytes) {
    const socket = connect(to);
    const writer = socket.writable.getWriter();
    const piece = new Uint8Array(PIECE);
    for (let sent = 0; sent < bytes; sent += PIECE) await writer.write(piece);
    await writer.close();
    await socket.closed;
  },
  async receive(to, bytes) {
    let received = 0;
    for await (const chunk of connect(to).readable) received += chunk.length;
    if (received !== bytes) throw new Error(`${received} bytes instead of ${bytes}`);
  },
  async turns(to, count) {
    const socket = connect(to);
    const writer = socket.writable.getWriter();
    const reader = socket.readable.getReader();
    const word = new Uint8Array(16);
    for (let turn = 0; turn < count; turn++) {
      await writer.write(word);
      await reader.read();
    }
    await socket.close();
  },
  // Kept, so that they stay open.
  async idle(to, count) {
    globalThis.kept = Array.from({ length: count }, () => connect(to));
    await Promise.all(kept.map((socket) => socket.opened));
  },
};

export default {
  async fetch(request) {
    const { pathname, searchParams } = new URL(request.url);
    const task = tasks[pathname.slice(1)];
    if (task === undefined) return new Response("ready");
    const begun = performance.now();
    await task(searchParams.get("to"), Number(searchParams.get("n")));
    return Response.json(performance.now() - begun);
  },
};
