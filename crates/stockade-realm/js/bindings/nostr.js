// A signer of Nostr events, with the members of `window.nostr` in NIP-07.

(function () {
const { core, primordials } = __bootstrap;
const {
  ArrayIsArray,
  ArrayPrototypePush,
  ObjectDefineProperty,
  ObjectEntries,
  PromisePrototypeThen,
  SafeArrayIterator,
  TypeError,
} = primordials;
const webidl = core.loadExtScript("ext:deno_webidl/00_webidl.js");
const { attempt, call, checkText } = core.loadExtScript("ext:stockade_realm/binding_calls.js");

const ours = { __proto__: null };

function textOf(value, what) {
  if (typeof value !== "string") throw new TypeError(`${what} must be a string, not ${typeof value}`);
  return checkText(value, what);
}

function numberOf(value, most, what) {
  if (typeof value !== "number" || value % 1 !== 0 || value < 0 || value > most) {
    throw new TypeError(`${what} must be a whole number from 0 to ${most}`);
  }
  return value;
}

function tagsOf(value) {
  if (!ArrayIsArray(value)) throw new TypeError("tags must be an array of arrays of strings");
  const tags = [];
  for (let i = 0; i < value.length; i++) {
    if (!ArrayIsArray(value[i])) throw new TypeError("a tag must be an array of strings");
    const tag = [];
    for (let j = 0; j < value[i].length; j++) ArrayPrototypePush(tag, textOf(value[i][j], "an item of a tag"));
    ArrayPrototypePush(tags, tag);
  }
  return tags;
}

// Each member of the event is read once: what is signed is what comes back.
function templateOf(event, publicKey) {
  if (typeof event !== "object" || event === null) throw new TypeError("an event must be an object");
  const { pubkey } = event;
  if (pubkey !== undefined && pubkey !== publicKey) {
    throw new TypeError("the event's pubkey is not that of the signer");
  }
  return {
    __proto__: null,
    kind: numberOf(event.kind, 0xffff, "kind"),
    createdAt: numberOf(event.created_at, 0xffffffff, "created_at"),
    tags: tagsOf(event.tags),
    content: textOf(event.content, "content"),
  };
}

class Encryption {
  #call;

  constructor(key, binding, version) {
    if (key !== ours) webidl.illegalConstructor();
    this.#call = (method, pubkey, text, what) =>
      attempt(() => {
        const request = { __proto__: null, pubkey: textOf(pubkey, "a public key"), text: textOf(text, what) };
        return call(binding, `${version}.${method}`, [request]);
      });
  }

  encrypt(pubkey, plaintext) {
    return this.#call("encrypt", pubkey, plaintext, "the plaintext");
  }

  decrypt(pubkey, ciphertext) {
    return this.#call("decrypt", pubkey, ciphertext, "the ciphertext");
  }
}

class NostrSigner {
  #binding;
  #details;

  constructor(key, binding, details) {
    if (key !== ours) webidl.illegalConstructor();
    this.#binding = binding;
    this.#details = details;
    for (const version of new SafeArrayIterator(["nip04", "nip44"])) {
      ObjectDefineProperty(this, version, {
        __proto__: null,
        value: new Encryption(ours, binding, version),
        enumerable: true,
      });
    }
  }

  getPublicKey() {
    return attempt(() => this.#details.publicKey);
  }

  getRelays() {
    return attempt(() => {
      const relays = {};
      for (const { 0: url, 1: use } of new SafeArrayIterator(ObjectEntries(this.#details.relays))) {
        ObjectDefineProperty(relays, url, core.propWritable({ read: use.read, write: use.write }));
      }
      return relays;
    });
  }

  signEvent(event) {
    return attempt(() => {
      const template = templateOf(event, this.#details.publicKey);
      return PromisePrototypeThen(call(this.#binding, "signEvent", [template]), ({ id, pubkey, sig }) => ({
        kind: template.kind,
        created_at: template.createdAt,
        tags: template.tags,
        content: template.content,
        pubkey,
        id,
        sig,
      }));
    });
  }
}
webidl.configureInterface(NostrSigner);

function create(binding, details) {
  return new NostrSigner(ours, binding, details);
}

return { create };
})();
