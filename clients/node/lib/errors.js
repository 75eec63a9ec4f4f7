// The errors of this package: what a guest threw, and what kept a run from having an outcome.

/** Characters that a terminal would obey: all control characters except for line ends and tabs. */
const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u2028\u2029]/g;

/** Text of a guest as a terminal may print it. */
export const printable = (text) =>
  String(text).replace(CONTROL, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`);

/**
 * Why a run has no result: the guest threw, or its run was ended. `message`, `name` and the other fields are the guest's own
 * words, in which control characters are escapes; `stack`, which `console.log` prints, ends with what the error came of.
 */
export class GuestError extends Error {
  constructor({ kind, name = "Error", message = kind, stack, ...place }) {
    super(message);
    Object.defineProperty(this, "name", { value: name, configurable: true, writable: true });
    /** A stable word, such as `thrown`, `syntax` or `cpu_limit_exceeded`. */
    this.kind = kind;
    // `source`, `line` and `column`, in the code as it was given and from 1, and the property `code` of what was thrown.
    for (const key of ["source", "line", "column", "code"]) {
      if (place[key] !== undefined && place[key] !== null) this[key] = place[key];
    }
    // A thrown value that is not an error has no name.
    this.stack = printable(stack ?? (name ? `${name}: ${message}` : message));
  }
}

/**
 * Why a run has no outcome: invalid options, a limit of the supervisor, no supervisor, or one that ended. `kind` is a stable
 * word; `limit` and `fix` are those that the supervisor states.
 */
export class StockadeError extends Error {
  constructor(kind, message, { limit, fix, cause } = {}) {
    super(fix && !message.includes("\n  fix: ") ? `${message}\n  fix: ${fix}` : message, cause ? { cause } : undefined);
    Object.defineProperty(this, "name", { value: "StockadeError", configurable: true, writable: true });
    this.kind = kind;
    if (limit !== undefined) this.limit = limit;
    if (fix !== undefined) this.fix = fix;
  }
}
