// Electrum servers: `request`, `subscribe`, and what is asked most.

(function () {
const { core, primordials } = __bootstrap;
const { PromisePrototypeThen, TypeError } = primordials;
const webidl = core.loadExtScript("ext:deno_webidl/00_webidl.js");
const { attempt, call, checkText, lines } = core.loadExtScript("ext:stockade_realm/binding_calls.js");

const ours = { __proto__: null };

// Bitcoin for 1000 virtual bytes, as servers say it, in satoshis for one.
const SAT_PER_VBYTE = 100_000;

function textOf(value, what) {
  if (typeof value !== "string") throw new TypeError(`${what} must be a string, not ${typeof value}`);
  return checkText(value, what);
}

class Electrum {
  #call;

  constructor(key, binding) {
    if (key !== ours) webidl.illegalConstructor();
    this.#call = (method, request) => call(binding, method, [request]);
  }

  #ask(method, params) {
    return this.#call("request", { __proto__: null, method, params });
  }

  #ofAddress(method, address) {
    return attempt(() => this.#call(method, { __proto__: null, address: textOf(address, "an address") }));
  }

  request(method, ...params) {
    return attempt(() => this.#ask(textOf(method, "a method"), params));
  }

  // A stream of states: the one now, and each later one.
  subscribe(method, ...params) {
    const request = { __proto__: null, method: textOf(method, "a method"), params };
    return lines(attempt(() => this.#call("subscribe", request)));
  }

  headers() {
    return this.subscribe("blockchain.headers.subscribe");
  }

  balance(address) {
    return this.#ofAddress("balance", address);
  }

  history(address) {
    return this.#ofAddress("history", address);
  }

  unspent(address) {
    return this.#ofAddress("unspent", address);
  }

  tx(id, verbose = false) {
    return attempt(() => this.#ask("blockchain.transaction.get", [textOf(id, "the id of a transaction"), verbose === true]));
  }

  broadcast(transaction) {
    return attempt(() =>
      this.#call("broadcast", { __proto__: null, params: [textOf(transaction, "a transaction in hexadecimal digits")] })
    );
  }

  // Satoshis for each virtual byte; null where the server cannot say.
  feeRate(blocks) {
    return attempt(() => {
      if (typeof blocks !== "number" || blocks % 1 !== 0 || blocks < 1 || blocks > 1008) {
        throw new TypeError("the number of blocks must be a whole number from 1 to 1008");
      }
      return PromisePrototypeThen(
        this.#ask("blockchain.estimatefee", [blocks]),
        (rate) => typeof rate === "number" && rate > 0 ? rate * SAT_PER_VBYTE : null,
      );
    });
  }
}
webidl.configureInterface(Electrum);

function create(binding) {
  return new Electrum(ours, binding);
}

return { create };
})();
