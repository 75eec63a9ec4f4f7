// Peers of a WireGuard interface that the grant made.

(function () {
const { core, primordials } = __bootstrap;
const { ArrayPrototypeMap, TypeError } = primordials;
const webidl = core.loadExtScript("ext:deno_webidl/00_webidl.js");
const { attempt, call, checkText } = core.loadExtScript("ext:stockade_realm/binding_calls.js");

const ours = { __proto__: null };

function textOf(value, what) {
  if (typeof value !== "string") throw new TypeError(`${what} must be a string, not ${typeof value}`);
  return checkText(value, what);
}

class Wireguard {
  #call;

  constructor(key, binding) {
    if (key !== ours) webidl.illegalConstructor();
    this.#call = (method, request) => call(binding, method, [request]);
  }

  #ofPeer(method, publicKey) {
    return attempt(() => this.#call(method, { __proto__: null, publicKey: textOf(publicKey, "publicKey") }));
  }

  peers() {
    return this.#call("peers", { __proto__: null });
  }

  addPeer(peer = {}) {
    return attempt(() => {
      const { publicKey, presharedKey, allowedIps } = peer;
      const wanted = { __proto__: null };
      if (publicKey !== undefined) wanted.publicKey = textOf(publicKey, "publicKey");
      if (presharedKey !== undefined) wanted.presharedKey = textOf(presharedKey, "presharedKey");
      if (allowedIps !== undefined) {
        wanted.allowedIps = ArrayPrototypeMap(allowedIps, (net) => textOf(net, "allowedIps"));
      }
      return this.#call("addPeer", wanted);
    });
  }

  removePeer(publicKey) {
    return this.#ofPeer("removePeer", publicKey);
  }

  newAddress() {
    return this.#call("newAddress", { __proto__: null });
  }

  clientConfig(publicKey) {
    return this.#ofPeer("clientConfig", publicKey);
  }

  clientQr(publicKey) {
    return this.#ofPeer("clientQr", publicKey);
  }
}
webidl.configureInterface(Wireguard);

function create(binding) {
  return new Wireguard(ours, binding);
}

return { create };
})();
