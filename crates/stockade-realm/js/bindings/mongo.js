// A MongoDB database, to which the guest's own driver speaks: `new MongoClient(env.DB.connectionString)`.
//
// The host of the address is a name that only `connect()` knows, and stands for the binding. There is no user: the login
// is the host's.

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

const ours = { __proto__: null };

const METHOD = "connect";
const PORT = 27017;

// Numbers keep hosts apart whose bindings differ in upper and lower case only.
let count = 0;

class Mongo {
  #binding;

  constructor(key, binding, { database }) {
    if (key !== ours) webidl.illegalConstructor();
    this.#binding = binding;
    count++;
    const host = `${StringPrototypeToLowerCase(binding)}-${count}.mongodb.stockade`;
    const facts = {
      __proto__: null,
      connectionString: `mongodb://${host}:${PORT}/${encodeURIComponent(database)}?directConnection=true`,
      host,
      port: PORT,
      database,
    };
    for (const { 0: name, 1: value } of new SafeArrayIterator(ObjectEntries(facts))) {
      ObjectDefineProperty(this, name, { __proto__: null, value, enumerable: true });
    }
    addDoor([host], binding, METHOD);
  }

  connect() {
    return openBinding(this.#binding, METHOD, []);
  }
}
webidl.configureInterface(Mongo);

function create(binding, details) {
  return new Mongo(ours, binding, details);
}

return { create };
})();
