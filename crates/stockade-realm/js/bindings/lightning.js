// A Lightning wallet, by the names of Nostr Wallet Connect in msat; `webln` has those of WebLN in sat.

(function () {
const { core, primordials } = __bootstrap;
const { Number, NumberIsInteger, ObjectDefineProperty, Promise, PromisePrototypeThen, TypeError } = primordials;
const webidl = core.loadExtScript("ext:deno_webidl/00_webidl.js");
const { attempt, call, checkText } = core.loadExtScript("ext:stockade_realm/binding_calls.js");

const ours = { __proto__: null };

const MSAT = 1000;
const MOST = 9_007_199_254_740_991;

function textOf(value, what) {
  if (typeof value !== "string") throw new TypeError(`${what} must be a string, not ${typeof value}`);
  return checkText(value, what);
}

function numberOf(value, what) {
  if (!NumberIsInteger(value) || value < 0 || value > MOST) {
    throw new TypeError(`${what} must be a whole number from 0`);
  }
  return value;
}

function optional(value, read, what) {
  return value === undefined || value === null ? undefined : read(value, what);
}

class LightningWallet {
  #call;

  constructor(key, binding) {
    if (key !== ours) webidl.illegalConstructor();
    this.#call = (method, request) => call(binding, method, [request]);
    ObjectDefineProperty(this, "webln", {
      __proto__: null,
      value: new WebLNProvider(ours, this.#call),
      enumerable: true,
    });
  }

  payInvoice(request) {
    return attempt(() =>
      this.#call("payInvoice", {
        __proto__: null,
        invoice: textOf(request?.invoice, "invoice"),
        amount: optional(request?.amount, numberOf, "amount"),
      })
    );
  }

  makeInvoice(request) {
    return attempt(() =>
      this.#call("makeInvoice", {
        __proto__: null,
        amount: numberOf(request?.amount, "amount"),
        description: optional(request?.description, textOf, "description"),
        expiry: optional(request?.expiry, numberOf, "expiry"),
      })
    );
  }

  lookupInvoice(request) {
    return attempt(() =>
      this.#call("lookupInvoice", {
        __proto__: null,
        invoice: optional(request?.invoice, textOf, "invoice"),
        payment_hash: optional(request?.payment_hash, textOf, "payment_hash"),
      })
    );
  }

  listTransactions() {
    return attempt(() => this.#call("listTransactions", { __proto__: null }));
  }

  getBalance() {
    return attempt(() => this.#call("getBalance", { __proto__: null }));
  }

  getBudget() {
    return attempt(() => this.#call("getBudget", { __proto__: null }));
  }
}
webidl.configureInterface(LightningWallet);

// What `makeInvoice` of WebLN takes: an amount in sat, or an object with one.
function invoiceOf(request) {
  const isObject = typeof request === "object" && request !== null;
  const given = isObject ? request.amount ?? request.defaultAmount : request;
  const amount = numberOf(typeof given === "string" ? Number(given) : given, "amount");
  return {
    __proto__: null,
    amount: numberOf(amount * MSAT, "amount"),
    description: isObject ? optional(request.defaultMemo, textOf, "defaultMemo") : undefined,
  };
}

function unsupported(method) {
  return attempt(() => {
    throw new TypeError(`the wallet has no ${method}`);
  });
}

class WebLNProvider {
  #call;

  constructor(key, call) {
    if (key !== ours) webidl.illegalConstructor();
    this.#call = call;
  }

  enable() {
    return new Promise((resolve) => resolve(undefined));
  }

  getInfo() {
    return attempt(() => ({
      node: { alias: "", pubkey: "" },
      version: "",
      supports: ["lightning"],
      methods: ["getInfo", "makeInvoice", "sendPayment", "getBalance"],
    }));
  }

  makeInvoice(request) {
    return attempt(() =>
      PromisePrototypeThen(this.#call("makeInvoice", invoiceOf(request)), ({ invoice, payment_hash }) => ({
        paymentRequest: invoice,
        rHash: payment_hash,
      }))
    );
  }

  sendPayment(paymentRequest) {
    return attempt(() => {
      const request = { __proto__: null, invoice: textOf(paymentRequest, "the payment request") };
      return PromisePrototypeThen(this.#call("payInvoice", request), ({ preimage }) => ({ preimage }));
    });
  }

  getBalance() {
    return attempt(() =>
      PromisePrototypeThen(this.#call("getBalance", { __proto__: null }), ({ balance }) => ({
        balance: (balance - balance % MSAT) / MSAT,
        currency: "sats",
      }))
    );
  }

  keysend() {
    return unsupported("keysend");
  }

  signMessage() {
    return unsupported("signMessage");
  }

  verifyMessage() {
    return unsupported("verifyMessage");
  }
}
webidl.configureInterface(WebLNProvider);

function create(binding) {
  return new LightningWallet(ours, binding);
}

return { create };
})();
