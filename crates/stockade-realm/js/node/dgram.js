// UDP clients, over `datagram()` of "stockade:sockets". The rules of `sockets` decide what may be reached, and answers come
// from the address that was sent to.
import "internal:globals";
import { Buffer } from "node:buffer";
import EventEmitter from "node:events";
import { coded, missing } from "internal:errors";
import { asNodeError } from "node:net";

const open = globalThis[Symbol.for("cloudflare:sockets")]?.datagram ?? missing("dgram", "this guest has no sockets");

export class Socket extends EventEmitter {
  constructor(type, listener) {
    super();
    const options = typeof type === "string" ? { type } : type;
    if (options?.type !== "udp4" && options?.type !== "udp6") {
      throw coded(TypeError, "ERR_SOCKET_BAD_TYPE", "Bad socket type specified. Valid types are: udp4, udp6");
    }
    this.type = options.type;
    // One for each address that is sent to.
    this._peers = new Map();
    this._closed = false;
    if (listener) this.on("message", listener);
  }

  // There is not an address of a guest's own: a socket is ready at once.
  bind(...args) {
    const callback = typeof args.at(-1) === "function" ? args.at(-1) : undefined;
    if (callback) this.once("listening", callback);
    queueMicrotask(() => this.emit("listening"));
    return this;
  }

  connect(port, host, callback) {
    if (typeof host === "function") [host, callback] = [undefined, host];
    this._remote = { port: Number(port), address: host ?? "localhost" };
    if (callback) this.once("connect", callback);
    this._peer(this._remote.port, this._remote.address).opened.then(() => this.emit("connect"), (error) => {
      this.emit("error", asNodeError(error, true));
    });
  }

  disconnect() {
    this._remote = undefined;
  }

  remoteAddress() {
    if (this._remote === undefined) throw coded(Error, "ERR_SOCKET_DGRAM_NOT_CONNECTED", "Not connected");
    return { ...this._remote, family: this.type === "udp4" ? "IPv4" : "IPv6" };
  }

  send(message, ...args) {
    const callback = typeof args.at(-1) === "function" ? args.pop() : undefined;
    let bytes = Array.isArray(message) ? Buffer.concat(message.map((part) => Buffer.from(part))) : Buffer.from(message);
    // (offset, length, port, address), (offset, length) where it is connected, or (port, address).
    const connected = this._remote !== undefined;
    if (args.length >= (connected ? 2 : 3) && typeof args[1] === "number") {
      const [offset, length] = args.splice(0, 2);
      bytes = bytes.subarray(offset, offset + length);
    }
    const [port, address] = connected ? [this._remote.port, this._remote.address] : [Number(args[0]), args[1] ?? "localhost"];
    if (this._closed) throw coded(Error, "ERR_SOCKET_DGRAM_NOT_RUNNING", "Not running");
    this._peer(port, address).send(bytes).then(() => callback?.(null, bytes.length), (error) => {
      const given = asNodeError(error, true);
      if (callback) callback(given);
      else this.emit("error", given);
    });
  }

  _peer(port, address) {
    const key = `${address} ${port}`;
    let peer = this._peers.get(key);
    if (peer === undefined) {
      peer = open({ hostname: address, port });
      this._peers.set(key, peer);
      this._receive(peer, { address, port, family: this.type === "udp4" ? "IPv4" : "IPv6" });
    }
    return peer;
  }

  async _receive(peer, from) {
    try {
      for await (const data of peer) {
        this.emit("message", Buffer.from(data.buffer, data.byteOffset, data.byteLength), { ...from, size: data.length });
      }
    } catch {
      // Who sends has the error.
    }
    this._peers.delete(`${from.address} ${from.port}`);
  }

  close(callback) {
    if (this._closed) throw coded(Error, "ERR_SOCKET_DGRAM_NOT_RUNNING", "Not running");
    if (callback) this.once("close", callback);
    this._closed = true;
    for (const peer of this._peers.values()) peer.close().catch(() => {});
    queueMicrotask(() => this.emit("close"));
    return this;
  }

  address() {
    return { address: this.type === "udp4" ? "0.0.0.0" : "::", port: 0, family: this.type === "udp4" ? "IPv4" : "IPv6" };
  }
  getRecvBufferSize() {
    return 0;
  }
  getSendBufferSize() {
    return 0;
  }
  ref() {
    return this;
  }
  unref() {
    return this;
  }
  setBroadcast() {
    throw coded(Error, "EACCES", "guests send to one address at a time");
  }
  setRecvBufferSize() {}
  setSendBufferSize() {}
  setTTL() {}
}

export const createSocket = (type, listener) => new Socket(type, listener);
export default { createSocket, Socket };
