// What `env` holds besides values: an object for each binding, made by the script of its kind.

(function () {
const { core, primordials } = __bootstrap;
const { String, TypeError } = primordials;

// The build script lists the scripts in `js/bindings/`: a script's name is its kind.
const kinds = core.loadExtScript("ext:stockade_realm/binding_kinds.js");

// The object of a binding. `details` is what its kind says of the grant before anything is asked; null for most.
function create(name, kind, details) {
  const script = kinds[kind];
  if (script === undefined) {
    throw new TypeError(`binding '${name}' is of an unknown kind '${String(kind)}'`);
  }
  return script.create(name, details);
}

return { create };
})();
