// `fetch` of a binding.

(function () {
const { core, primordials } = __bootstrap;
const { ArrayPrototypePush, ObjectKeys } = primordials;
const webidl = core.loadExtScript("ext:deno_webidl/00_webidl.js");
const { fetchBy } = core.loadExtScript("ext:stockade_realm/fetch.js");
const network = core.loadExtScript("ext:stockade_realm/network.js");
const trace = core.loadExtScript("ext:stockade_realm/trace.js");

const ours = { __proto__: null };

class Fetcher {
  #send;

  constructor(key, binding) {
    if (key !== ours) webidl.illegalConstructor();
    this.#send = (url, method, headers, body, _redirect, onId, here) => {
      const flat = [];
      const names = ObjectKeys(headers);
      for (let i = 0; i < names.length; i++) {
        ArrayPrototypePush(flat, names[i], headers[names[i]]);
      }
      return network.startRequest(
        "binding.fetch",
        trace.mark({ __proto__: null, binding, url, method, headers: flat, body }),
        onId,
        here,
      );
    };
  }

  fetch(input, init = undefined) {
    return fetchBy(this.#send, arguments.length, input, init);
  }
}
webidl.configureInterface(Fetcher);

function fetcher(binding) {
  return new Fetcher(ours, binding);
}

return { fetcher };
})();
