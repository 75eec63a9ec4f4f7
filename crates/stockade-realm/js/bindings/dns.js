// Looks names up.

(function () {
const { core, primordials } = __bootstrap;
const { TypeError } = primordials;
const webidl = core.loadExtScript("ext:deno_webidl/00_webidl.js");
const { attempt, call, checkText } = core.loadExtScript("ext:stockade_realm/binding_calls.js");

const ours = { __proto__: null };

class Dns {
  #resolve;

  constructor(key, binding) {
    if (key !== ours) webidl.illegalConstructor();
    this.#resolve = (request) => call(binding, "resolve", [request]);
  }

  // As `Deno.resolveDns`, whose name servers are here those of the grant.
  resolve(name, type = "A", options = undefined) {
    return attempt(() => {
      if (options?.nameServer !== undefined) {
        throw new TypeError("the name servers are those of the grant: leave out nameServer");
      }
      options?.signal?.throwIfAborted();
      return this.#resolve({
        __proto__: null,
        name: checkText(`${name}`, "a name"),
        type: checkText(`${type}`, "the type of a record"),
      });
    });
  }
}
webidl.configureInterface(Dns);

function create(binding) {
  return new Dns(ours, binding);
}

return { create };
})();
