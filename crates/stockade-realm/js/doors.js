// Servers to which a guest's own driver speaks, with the members of Cloudflare's Hyperdrive.
// https://developers.cloudflare.com/hyperdrive/reference/supported-databases-and-features/
//
// The host of the address is a name that only `connect()` knows, and stands for the binding. User and password, where a
// protocol has them, are accepted whatever they are: the login is the host's.

(function () {
const { core, primordials } = __bootstrap;
const {
  encodeURIComponent,
  ObjectDefineProperty,
  ObjectEntries,
  SafeArrayIterator,
  StringPrototypeToLowerCase,
} = primordials;
const webidl = core.loadExtScript("ext:deno_webidl/00_webidl.js");
const { addDoor, openBinding } = core.loadExtScript("ext:stockade_realm/connect.js");
const sql = core.loadExtScript("ext:stockade_realm/sql.js");

const ours = { __proto__: null };

const METHOD = "connect";
const USER = "guest";
const PASSWORD = "none";

// Numbers keep hosts apart whose bindings differ in upper and lower case only.
let count = 0;

class Hyperdrive {
  #binding;

  constructor(key, binding, { scheme, port, query, hasLogin, hasSql }, database) {
    if (key !== ours) webidl.illegalConstructor();
    this.#binding = binding;
    count++;
    const host = `${StringPrototypeToLowerCase(binding)}-${count}.${scheme}.stockade`;
    const path = encodeURIComponent(database);
    const login = hasLogin ? { __proto__: null, user: USER, password: PASSWORD } : { __proto__: null };
    const credentials = hasLogin ? `${USER}:${PASSWORD}@` : "";
    const facts = {
      __proto__: null,
      connectionString: `${scheme}://${credentials}${host}:${port}/${path}${query}`,
      host,
      port,
      ...login,
      database,
    };
    for (const { 0: name, 1: value } of new SafeArrayIterator(ObjectEntries(facts))) {
      ObjectDefineProperty(this, name, { __proto__: null, value, enumerable: true });
    }
    if (hasSql) {
      ObjectDefineProperty(this, "sql", { __proto__: null, value: sql.create(binding, scheme), enumerable: true });
    }
    addDoor([host], binding, METHOD);
  }

  connect() {
    return openBinding(this.#binding, METHOD, []);
  }
}
webidl.configureInterface(Hyperdrive);

// The `create` of a kind's script. `kind`: the scheme, port and query of its connection strings, whether these have a user
// and a password, and whether statements need no driver.
function creates(kind) {
  return (binding, details) => new Hyperdrive(ours, binding, kind, details.database);
}

return { creates };
})();
