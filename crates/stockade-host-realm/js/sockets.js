// Real WebSockets for a guest: `worker.allowWebSocket(check)`.
//
// The guest's side of the conversation is in the worker realm's `websocket.js`.

import { core } from "ext:core/mod.js";

const loadWebSocket = core.createLazyLoader("ext:deno_websocket/01_websocket.js");

// What may wait to be sent to a slow peer before the socket is closed.
const MAX_BUFFERED = 64 * 1024 * 1024;

export function allowWebSocket(isolate, check) {
  const sockets = new Map(); // conn_id -> WebSocket, null until `check` has said yes

  const tell = (conn_id, event_type, data) => {
    if (!isolate.destroyed) isolate.send("__ws_event", { conn_id, event_type, data });
  };
  const refuse = (conn_id, message) => {
    sockets.delete(conn_id);
    tell(conn_id, "error", { message });
  };

  async function open({ conn_id, url, protocols = [] }) {
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
    socket.onopen = () => tell(conn_id, "open", { protocol: socket.protocol });
    socket.onmessage = ({ data }) => {
      try {
        tell(conn_id, "message", typeof data === "string" ? data : new Uint8Array(data));
      } catch {
        // The guest does not take its messages as fast as they come.
        socket.close(4008, "the receiver is too slow");
      }
    };
    socket.onerror = ({ message }) => refuse(conn_id, message || "the connection failed");
    socket.onclose = ({ code, reason, wasClean }) => {
      sockets.delete(conn_id);
      tell(conn_id, "close", { code, reason, wasClean });
    };
  }

  isolate.on("ws.open", open);
  isolate.on("ws.send", ({ conn_id, data }) => {
    const socket = sockets.get(conn_id);
    if (socket?.readyState !== 1) return;
    if (socket.bufferedAmount > MAX_BUFFERED) {
      socket.close(4009, "the peer is too slow");
      return;
    }
    socket.send(data);
  });
  isolate.on("ws.close", ({ conn_id, code, reason }) => {
    const socket = sockets.get(conn_id);
    if (socket === undefined) return;
    if (socket !== null) {
      closeQuietly(socket, code, reason);
      return;
    }
    sockets.delete(conn_id);
    tell(conn_id, "close", { code: 1006, reason: "", wasClean: false });
  });
  isolate.onSystem("destroyed", () => {
    for (const socket of sockets.values()) if (socket !== null) closeQuietly(socket);
    sockets.clear();
  });
}

function closeQuietly(socket, code, reason) {
  try {
    socket.close(code ?? undefined, reason ?? undefined);
  } catch {
    socket.close();
  }
}
