// A granted folder.

(function () {
const { core, primordials } = __bootstrap;
const { ArrayBufferIsView, ObjectPrototypeIsPrototypeOf, PromisePrototypeThen, TypeError } = primordials;
const webidl = core.loadExtScript("ext:deno_webidl/00_webidl.js");
const { ReadableStream, ReadableStreamPrototype } = core.loadExtScript("ext:deno_web/06_streams.js");
const { attempt, call, checkText, lines, typeOf, valueOf } = core.loadExtScript(
  "ext:stockade_realm/binding_calls.js",
);
const { toData } = core.loadExtScript("ext:stockade_realm/websocket.js");

const ours = { __proto__: null };

function checkPath(path) {
  if (typeof path !== "string") throw new TypeError(`a path must be a string, not ${typeof path}`);
  return checkText(path, "a path");
}

function contentOf(data) {
  if (typeof data !== "string" && !ArrayBufferIsView(data) && !core.isArrayBuffer(data)) {
    throw new TypeError(`a file is written from text, bytes or a stream, not from ${typeof data}`);
  }
  return typeof data === "string" ? core.encode(data) : toData(data);
}

// What is written: bytes, or a stream of them.
function dataOf(data) {
  return ObjectPrototypeIsPrototypeOf(ReadableStreamPrototype, data) ? data : contentOf(data);
}

// A text has a length too: it names a type.
function rangeOf(options) {
  const range = { __proto__: null };
  if (typeof options === "object" && options !== null) {
    range.offset = options.offset;
    range.length = options.length;
  }
  return range;
}

class Files {
  #call;

  constructor(key, binding) {
    if (key !== ours) webidl.illegalConstructor();
    this.#call = (method, path, request) => {
      request.path = checkPath(path);
      return call(binding, method, [request]);
    };
  }

  list(path = "", options = undefined) {
    return attempt(() =>
      this.#call("list", path, { __proto__: null, limit: options?.limit, cursor: options?.cursor })
    );
  }

  stat(path) {
    return attempt(() => this.#call("stat", path, { __proto__: null }));
  }

  read(path, options = undefined) {
    return attempt(() => {
      const type = typeOf(options);
      const request = rangeOf(options);
      return PromisePrototypeThen(
        this.#call("read", path, request),
        (value) => value === null ? null : valueOf(value, type ?? "b"),
      );
    });
  }

  readStream(path, options = undefined) {
    return attempt(() => this.#call("readStream", path, rangeOf(options)));
  }

  write(path, data, options = undefined) {
    return attempt(() => {
      const { createNew, offset } = options ?? {};
      return this.#call("write", path, { __proto__: null, data: dataOf(data), createNew, offset });
    });
  }

  append(path, data, options = undefined) {
    return attempt(() =>
      this.#call("append", path, { __proto__: null, data: dataOf(data), createNew: options?.createNew })
    );
  }

  truncate(path, length = 0) {
    return attempt(() => this.#call("truncate", path, { __proto__: null, length }));
  }

  copy(from, to, options = undefined) {
    return attempt(() =>
      this.#call("copy", from, { __proto__: null, to: checkPath(to), createNew: options?.createNew })
    );
  }

  rename(from, to, options = undefined) {
    return attempt(() =>
      this.#call("rename", from, { __proto__: null, to: checkPath(to), createNew: options?.createNew })
    );
  }

  // Fulfilled when the host has begun to watch, with a stream of the changes since then.
  watch(path = "", options = undefined) {
    return attempt(() => {
      const recursive = options?.recursive === true;
      const opening = this.#call("watch", path, { __proto__: null, recursive });
      return PromisePrototypeThen(opening, () => lines(opening));
    });
  }

  delete(path) {
    return attempt(() => this.#call("delete", path, { __proto__: null }));
  }

  createFolder(path) {
    return attempt(() => this.#call("createFolder", path, { __proto__: null }));
  }
}
webidl.configureInterface(Files);

function create(binding) {
  return new Files(ours, binding);
}

return { create };
})();
