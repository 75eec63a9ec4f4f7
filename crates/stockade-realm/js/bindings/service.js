// Another site: `fetch`, and the methods that its module offers.

(function () {
const { core, primordials } = __bootstrap;
const { ObjectHasOwn, ObjectPrototype, Proxy, ReflectGet } = primordials;
const { fetcher } = core.loadExtScript("ext:stockade_realm/fetcher.js");
const { bound, callSite } = core.loadExtScript("ext:stockade_realm/targets.js");

// Any other name is a method of the site. `then` is none, or `await` would call it; nor is what every
// object has, or what JSON asks for.
function create(binding) {
  bound();
  const target = fetcher(binding);
  const fetch = (...args) => target.fetch(...args);
  return new Proxy(target, {
    __proto__: null,
    get(target, name) {
      if (name === "fetch") return fetch;
      if (
        typeof name !== "string" || name === "then" || name === "toJSON" ||
        ObjectHasOwn(ObjectPrototype, name)
      ) {
        return ReflectGet(target, name);
      }
      return (...args) => callSite(binding, name, args);
    },
  });
}

return { create };
})();
