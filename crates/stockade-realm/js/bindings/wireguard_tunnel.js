// What is known of a tunnel. Connections go through it by the rules that name it.

(function () {
const { core } = __bootstrap;
const webidl = core.loadExtScript("ext:deno_webidl/00_webidl.js");
const { call } = core.loadExtScript("ext:stockade_realm/binding_calls.js");

const ours = { __proto__: null };

class WireguardTunnel {
  #status;

  constructor(key, binding) {
    if (key !== ours) webidl.illegalConstructor();
    this.#status = () => call(binding, "status", []);
  }

  status() {
    return this.#status();
  }
}
webidl.configureInterface(WireguardTunnel);

function create(binding) {
  return new WireguardTunnel(ours, binding);
}

return { create };
})();
