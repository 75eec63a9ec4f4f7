// TLS clients: the host speaks TLS, with the roots and client certificates of the rule that allows the connection. What
// a guest says about certificates (`ca`, `cert`, `key`, `rejectUnauthorized`) is not used: servers must always prove
// who they are.
import { asNodeError, isIP, Socket } from "node:net";
import { coded, missing } from "internal:errors";

export class TLSSocket extends Socket {
  constructor(socket, options) {
    super(socket instanceof Socket ? options : socket ?? {});
    this.encrypted = true;
    this.authorized = false;
    this.authorizationError = null;
    this.alpnProtocol = false;
    this.servername = undefined;
    this.once("secureConnect", () => this.authorized = true);
    if (socket instanceof Socket) this._takeOver(socket, options ?? {});
  }

  _platformOptions(options) {
    const servername = options.servername || undefined;
    return { secureTransport: "on", allowHalfOpen: true, expectedServerHostname: servername };
  }

  // Goes on with an open connection, in TLS.
  _takeOver(socket, options) {
    const begin = () => {
      const servername = options.servername || (isIP(options.host ?? "") ? undefined : options.host) || undefined;
      this._host = socket._host;
      this.remotePort = socket.remotePort;
      this.connecting = true;
      const connection = socket._release();
      this.once("close", () => socket.destroy());
      try {
        this._attach(connection.startTls({ expectedServerHostname: servername }), "secureConnect");
      } catch (error) {
        queueMicrotask(() => this.destroy(asNodeError(error, true)));
      }
    };
    if (socket._writer !== null) begin();
    else socket.once("connect", begin);
    socket.once("error", (error) => this.destroy(error));
  }

  getCipher() {
    return {};
  }
  getEphemeralKeyInfo() {
    return {};
  }
  getFinished() {}
  getPeerCertificate() {
    return {};
  }
  getPeerX509Certificate() {}
  getProtocol() {
    return "TLSv1.3";
  }
  getSession() {}
  isSessionReused() {
    return false;
  }
  setMaxSendFragment() {
    return true;
  }
  setServername(name) {
    this.servername = name;
  }
  setSession() {}
  disableRenegotiation() {}
}

export function connect(...args) {
  const callback = typeof args.at(-1) === "function" ? args.pop() : undefined;
  let [options, host, more] = args;
  if (typeof options !== "object") {
    const given = typeof host === "object" ? host : more ?? {};
    options = { ...given, port: options, host: typeof host === "string" ? host : given.host };
  } else if (typeof host === "object") {
    options = { ...options, ...host };
  }
  const existing = options.socket;
  if (existing !== undefined && !(existing instanceof Socket)) {
    throw coded(TypeError, "ERR_INVALID_ARG_TYPE", "TLS is started on a socket of node:net and on no other stream");
  }
  const socket = existing === undefined ? new TLSSocket(options) : new TLSSocket(existing, options);
  if (callback !== undefined) socket.once("secureConnect", callback);
  if (existing === undefined) {
    socket.once("connect", () => socket.emit("secureConnect"));
    socket.connect(options);
  } else {
    socket.once("secureConnect", () => socket.emit("connect"));
  }
  return socket;
}

export class SecureContext {
  constructor(options) {
    this.context = options;
  }
}
export const createSecureContext = (options = {}) => new SecureContext(options);
export const checkServerIdentity = () => undefined;
export const createServer = missing("tls.createServer", "listeners are in the configuration");
export const rootCertificates = [];
export const getCiphers = () => [];
export const DEFAULT_MIN_VERSION = "TLSv1.2";
export const DEFAULT_MAX_VERSION = "TLSv1.3";
export const DEFAULT_ECDH_CURVE = "auto";
export const DEFAULT_CIPHERS = "";
export default {
  checkServerIdentity,
  connect,
  createSecureContext,
  createServer,
  DEFAULT_CIPHERS,
  DEFAULT_ECDH_CURVE,
  DEFAULT_MAX_VERSION,
  DEFAULT_MIN_VERSION,
  getCiphers,
  rootCertificates,
  SecureContext,
  TLSSocket,
};
