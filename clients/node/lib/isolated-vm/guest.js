// What the drop-in for isolated-vm runs in the guest before the user's code. Uses nothing from outside of the function but
// the guest's globals and `codec`.

/** @param {Function} codec the function of codec.js */
export function guest(codec) {
  const values = new Map([[0, globalThis]]);
  let next = 1;
  const kept = (value) => (values.set(next, value), next++);
  const held = (id) => {
    if (!values.has(id)) throw new TypeError("Reference has been released");
    return values.get(id);
  };
  const kind = (value) => (value === null ? "null" : typeof value === "symbol" ? "object" : typeof value);
  /** Calls that the host has not taken yet. An operation ends after them: what is sent later may be lost. */
  const sent = new Set();
  let turns = 0;
  const call = async (id, args) => {
    const taken = tools.call({ turn: ++turns, id, args: args.map((one) => plain.encode(one)) });
    sent.add(taken);
    let answer;
    try {
      answer = JSON.parse(await taken);
    } finally {
      sent.delete(taken);
    }
    // A function of the host that returned a promise: the answer is a second call.
    if (answer?.$ === "later") answer = JSON.parse(await tools.call({ ticket: answer.ticket }));
    return plain.decode(answer);
  };

  /** A value of the host that the guest may only call. */
  class Reference {
    #id;
    constructor(id, type) {
      this.#id = id;
      this.typeof = type;
    }
    apply(_receiver, args = []) {
      return call(this.#id, args);
    }
    applyIgnored(_receiver, args = []) {
      call(this.#id, args).catch(() => {});
    }
    applySync() {
      throw new TypeError("a guest of Stockade cannot wait for its host without a promise\n  fix: await reference.apply(undefined, arguments), or use applyIgnored");
    }
    applySyncPromise() {
      return this.applySync();
    }
  }

  const plain = codec(
    () => undefined,
    (mark) => {
      if (mark.$ === "reference") return held(mark.id); // derefInto()
      if (mark.$ === "host") return new Reference(mark.id, mark.type);
      if (mark.$ !== "callback") throw new TypeError(`unknown value '${mark.$}'`);
      if (mark.ignored) return (...args) => void call(mark.id, args).catch(() => {});
      return (...args) => call(mark.id, args);
    },
  );
  const reference = (value) => ({ $: "reference", id: kept(value), type: kind(value) });

  /** A result, as the options of a transfer ask: `{reference, copy, fallback}`. */
  const given = (value, { reference: wanted, copy, fallback }) => {
    if (wanted) return reference(value);
    if (copy || value === null || !["object", "function", "symbol"].includes(typeof value)) return plain.encode(value);
    if (fallback === "reference") return reference(value);
    if (fallback === "undefined") return plain.encode(undefined);
    throw new TypeError("A non-transferable value was passed");
  };

  const does = {
    eval: ({ code }) => (0, eval)(code),
    closure: ({ code, args, names }) => (0, eval)(code)(...args.map(plain.decode)),
    get: ({ id, key }) => held(id)[key],
    set: ({ id, key, value }) => void (held(id)[key] = plain.decode(value)),
    delete: ({ id, key }) => void delete held(id)[key],
    apply: ({ id, receiver, args }) => Reflect.apply(held(id), plain.decode(receiver), args.map(plain.decode)),
    value: ({ id }) => held(id),
    release: ({ id }) => void values.delete(id),
  };

  /** Performs one operation, and returns its result or what it threw, as text. */
  return async (text) => {
    const operation = JSON.parse(text);
    let answer;
    try {
      let value = does[operation.does](operation);
      if (operation.to.promise) value = await value;
      answer = { value: given(value, operation.to) };
    } catch (error) {
      const thrown = error instanceof Error || Object(error) !== error ? error : new Error(String(error));
      answer = { threw: plain.encode(thrown), stack: String(thrown?.stack ?? "") };
    }
    while (sent.size) await Promise.allSettled(sent);
    return JSON.stringify({ ...answer, turns });
  };
}
