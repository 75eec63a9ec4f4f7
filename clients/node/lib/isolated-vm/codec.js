// Values between host and guest of the drop-in for isolated-vm, as JSON. Both sides have this function: the guest's prelude
// contains its source, so it uses nothing from outside of it.

/**
 * @param {(value: any) => object | undefined} special writes a value that only this side knows, such as a reference, as
 *   `{$: kind, …}`
 * @param {(mark: object) => any} revive reads one
 */
export function codec(special, revive) {
  const VIEWS = { Uint8Array, Int8Array, Uint8ClampedArray, Uint16Array, Int16Array, Uint32Array, Int32Array, Float32Array, Float64Array, BigInt64Array, BigUint64Array, DataView };
  const ERRORS = { Error, EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError };
  const bytes = (buffer, offset, length) => {
    let text = "";
    for (const one of new Uint8Array(buffer, offset, length)) text += String.fromCharCode(one);
    return btoa(text);
  };
  const buffer = (text) => Uint8Array.from(atob(text), (one) => one.charCodeAt(0)).buffer;

  const encode = (value, seen = []) => {
    if (value === null || typeof value === "string" || typeof value === "boolean") return value;
    if (typeof value === "number") return Number.isFinite(value) && !Object.is(value, -0) ? value : { $: "number", text: Object.is(value, -0) ? "-0" : String(value) };
    if (value === undefined) return { $: "undefined" };
    if (typeof value === "bigint") return { $: "bigint", text: String(value) };
    const known = special(value);
    if (known) return known;
    if (typeof value !== "object") throw new TypeError(`a ${typeof value} cannot be copied`);
    if (seen.includes(value)) throw new TypeError("an object that contains itself cannot be copied here");
    const inner = (one) => encode(one, [...seen, value]);
    if (Array.isArray(value)) return { $: "array", items: Array.from(value, inner) };
    if (value instanceof Date) return { $: "date", time: inner(value.getTime()) };
    if (value instanceof Map) return { $: "map", entries: Array.from(value, ([key, one]) => [inner(key), inner(one)]) };
    if (value instanceof Set) return { $: "set", items: Array.from(value, inner) };
    if (value instanceof ArrayBuffer) return { $: "buffer", bytes: bytes(value, 0, value.byteLength) };
    if (ArrayBuffer.isView(value)) {
      const type = Object.keys(VIEWS).find((name) => value instanceof VIEWS[name]);
      return { $: "view", type, bytes: bytes(value.buffer, value.byteOffset, value.byteLength) };
    }
    if (value instanceof Error) return { $: "error", name: String(value.name), message: String(value.message) };
    if (value instanceof RegExp) throw new TypeError("a regular expression cannot be copied here");
    return { $: "object", entries: Object.keys(value).map((key) => [key, inner(value[key])]) };
  };

  const decode = (mark) => {
    if (mark === null || typeof mark !== "object") return mark;
    switch (mark.$) {
      case "undefined": return undefined;
      case "number": return Number(mark.text);
      case "bigint":
        // Reading one takes more than linear time, and the other side may be hostile.
        if (String(mark.text).length > 100_000) throw new RangeError("a BigInt of more than 100,000 digits cannot be copied here");
        return BigInt(mark.text);
      case "array": return mark.items.map(decode);
      case "date": return new Date(decode(mark.time));
      case "map": return new Map(mark.entries.map(([key, one]) => [decode(key), decode(one)]));
      case "set": return new Set(mark.items.map(decode));
      case "buffer": return buffer(mark.bytes);
      case "view":
        if (!Object.hasOwn(VIEWS, mark.type)) throw new TypeError("unknown type of array");
        return new VIEWS[mark.type](buffer(mark.bytes));
      case "error": {
        const made = new (Object.hasOwn(ERRORS, mark.name) ? ERRORS[mark.name] : Error)(mark.message);
        if (made.name !== mark.name) Object.defineProperty(made, "name", { value: mark.name, configurable: true });
        return made;
      }
      case "object": {
        const made = {};
        for (const [key, one] of mark.entries) Object.defineProperty(made, key, { value: decode(one), configurable: true, enumerable: true, writable: true });
        return made;
      }
      default: return revive(mark);
    }
  };
  return { encode, decode };
}
