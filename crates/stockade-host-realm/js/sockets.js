// Real WebSockets for a guest: `worker.allowWebSocket(check)`.
//
// The guest's side of the connection is in the worker realm's `websocket.js`.

import { core } from "ext:core/mod.js";

const loadWebSocket = core.createLazyLoader("ext:deno_websocket/01_websocket.js");

// What may wait to be sent to slow peers, over all sockets of one isolate, before a socket is closed that
// adds to it.
const MAX_BUFFERED = 64 * 1024 * 1024;

// Sockets of one isolate at once.
const MAX_SOCKETS = 256;
// Events that wait for a guest whose queue is full; two of each socket are the most that an honest one has.
const MAX_WAITING = 4 * MAX_SOCKETS;
// Characters of why a socket is refused.
const MAX_REFUSAL = 1024;

// What comes from the guest may be anything: nothing here throws because of it.
export function allowWebSocket(isolate, check) {
  const sockets = new Map(); // conn_id -> WebSocket, null until `check` has said yes

  const waiting = []; // events that the guest must receive, while its queue is full

  // False if the guest is gone, or does not take its messages as fast as they come.
  const notify = (conn_id, event_type, data) => {
    if (waiting.length > 0) return false;
    try {
      isolate.send("__ws_event", { conn_id, event_type, data });
      return true;
    } catch {
      return false;
    }
  };
  // That a socket is open, and that it is no more, is never lost: a few events for each socket. A guest that
  // asks for more sockets than there may be and takes no answer is ended.
  const notifySurely = (conn_id, event_type, data) => {
    if (notify(conn_id, event_type, data)) return;
    if (waiting.length >= MAX_WAITING) {
      isolate.destroy();
      return;
    }
    waiting.push([conn_id, event_type, data]);
    if (waiting.length === 1) notifyWaiting();
  };
  async function notifyWaiting() {
    while (waiting.length > 0) {
      try {
        await isolate.drain();
        const [conn_id, event_type, data] = waiting[0];
        isolate.send("__ws_event", { conn_id, event_type, data });
        waiting.shift();
      } catch (error) {
        if (error.name === "Busy") continue;
        if (isolate.destroyed) waiting.length = 0;
        else waiting.shift();
      }
    }
  }
  const buffered = () => {
    let sum = 0;
    for (const socket of sockets.values()) sum += socket?.bufferedAmount ?? 0;
    return sum;
  };
  const refuse = (conn_id, message) => {
    sockets.delete(conn_id);
    // It may hold the guest's URL, which may be as long as a message.
    notifySurely(conn_id, "error", { message: message.slice(0, MAX_REFUSAL) });
  };

  async function open(message) {
    const { conn_id, url } = message ?? {};
    const protocols = Array.isArray(message?.protocols) ? message.protocols : [];
    if (typeof url !== "string" || sockets.has(conn_id)) return;
    if (sockets.size >= MAX_SOCKETS) {
      return refuse(conn_id, `an isolate may have at most ${MAX_SOCKETS} WebSockets at once`);
    }
    sockets.set(conn_id, null);
    let allowed = false;
    try {
      allowed = await check(url);
    } catch (error) {
      return refuse(conn_id, String(error?.message ?? error));
    }
    if (!sockets.has(conn_id)) return;
    if (!allowed) return refuse(conn_id, `the host does not allow a WebSocket to ${url}`);
    try {
      connect(conn_id, url, protocols);
    } catch (error) {
      refuse(conn_id, error.message);
    }
  }

  function connect(conn_id, url, protocols) {
    const { WebSocket } = loadWebSocket();
    const socket = new WebSocket(url, protocols);
    socket.binaryType = "arraybuffer";
    sockets.set(conn_id, socket);
    socket.onopen = () => notifySurely(conn_id, "open", { protocol: socket.protocol });
    socket.onmessage = ({ data }) => {
      const content = typeof data === "string" ? data : new Uint8Array(data);
      if (!notify(conn_id, "message", content)) closeQuietly(socket, 4008, "the receiver is too slow");
    };
    socket.onerror = (event) => {
      event.preventDefault?.();
      refuse(conn_id, event.message || "the connection failed");
    };
    socket.onclose = ({ code, reason, wasClean }) => {
      sockets.delete(conn_id);
      notifySurely(conn_id, "close", { code, reason, wasClean });
    };
  }

  isolate.on("ws.open", open);
  isolate.on("ws.send", (message) => {
    const data = message?.data;
    const socket = sockets.get(message?.conn_id);
    if (socket?.readyState !== 1) return;
    if (buffered() > MAX_BUFFERED) {
      closeQuietly(socket, 4009, "the peer is too slow");
    } else if (typeof data === "string" || data instanceof Uint8Array) {
      socket.send(data);
    }
  });
  isolate.on("ws.close", (message) => {
    const { conn_id, code, reason } = message ?? {};
    const socket = sockets.get(conn_id);
    if (socket === undefined) return;
    if (socket !== null) {
      closeQuietly(socket, code, reason);
      return;
    }
    sockets.delete(conn_id);
    notifySurely(conn_id, "close", { code: 1006, reason: "", wasClean: false });
  });
  isolate.onSystem("destroyed", () => {
    for (const socket of sockets.values()) if (socket !== null) closeQuietly(socket);
    sockets.clear();
  });
}

// A close frame has no reason without a code.
function closeQuietly(socket, code, reason) {
  try {
    if (code === undefined || code === null) socket.close();
    else socket.close(code, reason === undefined ? undefined : String(reason));
  } catch {
    socket.close();
  }
}
