// `HTMLRewriter`, as Workers have it: handlers for parts of the HTML in a response.
//
// The parser is Rust, see `stockade_html`. It reads a piece of the document and then says which handlers are to be
// called; their changes are made when all of them are done. A handler may therefore wait for a promise.
//
// Invariant: an object for a part of the document is of no use after its handler is done.

(function () {
const { core, primordials } = __bootstrap;
const {
  op_html_change,
  op_html_check_selector,
  op_html_close,
  op_html_next,
  op_html_open,
  op_html_read,
  op_html_read_end,
  op_html_take,
  op_html_write,
} = core.ops;
const {
  ArrayPrototypePush,
  ArrayPrototypeSplice,
  MapPrototypeDelete,
  MapPrototypeGet,
  MapPrototypeSet,
  MathMin,
  ObjectCreate,
  ObjectDefineProperty,
  ObjectGetOwnPropertyDescriptor,
  ObjectGetPrototypeOf,
  ObjectPrototypeIsPrototypeOf,
  PromisePrototypeThen,
  ReflectApply,
  SafeFinalizationRegistry,
  SafeMap,
  String,
  StringFromCharCode,
  StringPrototypeCharCodeAt,
  Symbol,
  SymbolIterator,
  TypedArrayPrototypeGetByteLength,
  TypedArrayPrototypeGetSymbolToStringTag,
  TypedArrayPrototypeSubarray,
  TypeError,
  Uint8Array,
} = primordials;
const webidl = core.loadExtScript("ext:deno_webidl/00_webidl.js");
const { parseMimeType } = core.loadExtScript("ext:deno_web/01_mimesniff.js");
const {
  isReadableStreamDisturbed,
  ReadableByteStreamController,
  readableByteStreamControllerClose,
  readableByteStreamControllerEnqueue,
  readableByteStreamControllerRespond,
  ReadableStream,
  ReadableStreamDefaultReader,
  ReadableStreamPrototype,
} = core.loadExtScript("ext:deno_web/06_streams.js");
const { TextDecoder } = core.loadExtScript("ext:deno_web/08_text_encoding.js");
const { Headers } = core.loadExtScript("ext:deno_fetch/20_headers.js");
const { Response, ResponsePrototype } = core.loadExtScript("ext:deno_fetch/23_response.js");

const { decode } = TextDecoder.prototype;
const { arrayBuffer: readBytes } = ResponsePrototype;
const { delete: deleteHeader, get: getHeader } = Headers.prototype;
const { read: readChunk, cancel: cancelReader } = ReadableStreamDefaultReader.prototype;
const { get: bodyOf } = ObjectGetOwnPropertyDescriptor(ResponsePrototype, "body");
const { get: headersOf } = ObjectGetOwnPropertyDescriptor(ResponsePrototype, "headers");
const { get: byobRequestOf } = ObjectGetOwnPropertyDescriptor(
  ReadableByteStreamController.prototype,
  "byobRequest",
);
const IteratorPrototype = ObjectGetPrototypeOf(ObjectGetPrototypeOf([][SymbolIterator]()));

// Bytes of the document that are read at once; `stockade_html::bounds`.
const MAX_PIECE = 16 * 1024;

// Bytes that are written before anybody reads them.
const AHEAD = 16 * 1024;

// Handler objects of one rewriter; `stockade_html::bounds`.
const MAX_HANDLERS = 1000;

// What a handler object wants to be called for: its methods, and their flags in `stockade_realm::html`.
const OF_ELEMENTS = { __proto__: null, element: 1, comments: 2, text: 4 };
const OF_DOCUMENT = { __proto__: null, doctype: 8, comments: 2, text: 4, end: 16 };

// Changes, as `stockade_realm::html` numbers them.
const BEFORE = 0;
const AFTER = 1;
const PREPEND = 2;
const APPEND = 3;
const REPLACE = 4;
const SET_INNER_CONTENT = 5;
const REMOVE = 6;
const REMOVE_AND_KEEP_CONTENT = 7;
const SET_NAME = 8;
const SET_ATTRIBUTE = 9;
const REMOVE_ATTRIBUTE = 10;
const SET_TEXT = 11;

// Only this script makes objects for parts of a document.
const ours = Symbol("ours");

// Closes documents whose streams nobody has any more.
const forgotten = new SafeFinalizationRegistry((id) => op_html_close(id));

// What is behind an object for a part of a document: `{ id, token, document, live, later }`. `token` is shared by all
// handlers that are called with the part. `later` are the changes from the first one on that waits for its content.
function live(state) {
  if (!state.live) {
    throw new TypeError(
      "This content token is no longer valid. Content tokens are only valid during the execution of the relevant content handler.",
    );
  }
  return state;
}

// Content is a text, or a stream or a response whose text is read when the handler is done.
function change(state, kind, content, options) {
  live(state);
  const html = options !== undefined && options !== null && !!options.html;
  let pending;
  let text = "";
  if (ObjectPrototypeIsPrototypeOf(ResponsePrototype, content)) pending = textOf(content);
  else if (ObjectPrototypeIsPrototypeOf(ReadableStreamPrototype, content)) pending = textOf(new Response(content));
  else text = String(content);
  if (pending !== undefined) {
    // The handler may throw before anybody waits for it.
    PromisePrototypeThen(pending, undefined, () => {});
    state.later ??= [];
  }
  // The conversions may have run code of the guest.
  record(live(state), kind, text, "", html, pending);
}

function changePlainly(state, kind, a = "", b = "") {
  record(live(state), kind, a, b, false, undefined);
}

// Makes a change, or has it made in its turn where one before waits for its content.
function record(state, kind, a, b, html, pending) {
  if (state.later === undefined) op_html_change(state.id, kind, a, b, html);
  else ArrayPrototypePush(state.later, { __proto__: null, kind, a, b, html, pending });
}

async function textOf(response) {
  const bytes = await ReflectApply(readBytes, response, []);
  try {
    return ReflectApply(decode, new TextDecoder("utf-8", { __proto__: null, fatal: true, ignoreBOM: true }), [bytes]);
  } catch {
    throw new TypeError("Parser error: Invalid UTF-8");
  }
}

// As the parser does it.
function asciiLower(text) {
  let lower = "";
  for (let i = 0; i < text.length; i++) {
    const code = StringPrototypeCharCodeAt(text, i);
    lower += code >= 65 && code <= 90 ? StringFromCharCode(code + 32) : text[i];
  }
  return lower;
}

// Gives what is behind an object for a part of a document, and throws for any other object.
let stateOf;

class Part {
  #state;

  constructor(key, state) {
    if (key !== ours) webidl.illegalConstructor();
    this.#state = state;
  }

  static {
    stateOf = (part) => part.#state;
  }
}

// Content can be put around it.
class Neighboured extends Part {
  before(content, options = undefined) {
    change(stateOf(this), BEFORE, content, options);
    return this;
  }

  after(content, options = undefined) {
    change(stateOf(this), AFTER, content, options);
    return this;
  }

  remove() {
    changePlainly(stateOf(this), REMOVE);
    return this;
  }
}

// Content can be put in its place.
class Content extends Neighboured {
  get removed() {
    return live(stateOf(this)).token.removed;
  }

  replace(content, options = undefined) {
    change(stateOf(this), REPLACE, content, options);
    stateOf(this).token.removed = true;
    return this;
  }

  remove() {
    super.remove();
    stateOf(this).token.removed = true;
    return this;
  }
}

class Element extends Content {
  get tagName() {
    return live(stateOf(this)).token.name;
  }

  set tagName(name) {
    name = String(name);
    changePlainly(stateOf(this), SET_NAME, name);
    const { document, token } = stateOf(this);
    token.name = asciiLower(name);
    if (token.hasContent) endTagOf(document, token.element).name = token.name;
  }

  get namespaceURI() {
    return live(stateOf(this)).token.namespace;
  }

  get attributes() {
    return makeIterator(live(stateOf(this)));
  }

  getAttribute(name) {
    name = asciiLower(String(name));
    const { attributes } = live(stateOf(this)).token;
    const at = indexOf(attributes, name);
    return at < 0 ? null : attributes[at][1];
  }

  hasAttribute(name) {
    name = asciiLower(String(name));
    return indexOf(live(stateOf(this)).token.attributes, name) >= 0;
  }

  setAttribute(name, value) {
    name = asciiLower(String(name));
    value = String(value);
    changePlainly(stateOf(this), SET_ATTRIBUTE, name, value);
    const { attributes } = changing(stateOf(this).token);
    const at = indexOf(attributes, name);
    if (at < 0) ArrayPrototypePush(attributes, [name, value]);
    else attributes[at][1] = value;
    return this;
  }

  removeAttribute(name) {
    name = asciiLower(String(name));
    changePlainly(stateOf(this), REMOVE_ATTRIBUTE, name);
    const { attributes } = changing(stateOf(this).token);
    for (let at; (at = indexOf(attributes, name)) >= 0;) ArrayPrototypeSplice(attributes, at, 1);
    return this;
  }

  prepend(content, options = undefined) {
    change(stateOf(this), PREPEND, content, options);
    return this;
  }

  append(content, options = undefined) {
    change(stateOf(this), APPEND, content, options);
    return this;
  }

  setInnerContent(content, options = undefined) {
    change(stateOf(this), SET_INNER_CONTENT, content, options);
    return this;
  }

  removeAndKeepContent() {
    changePlainly(stateOf(this), REMOVE_AND_KEEP_CONTENT);
    stateOf(this).token.removed = true;
    return this;
  }

  onEndTag(handler) {
    const { document, token } = live(stateOf(this));
    if (typeof handler !== "function") {
      throw new TypeError(`the handler of an end tag must be a function, not ${typeof handler}`);
    }
    if (!token.hasContent) throw new TypeError("Parser error: No end tag.");
    ArrayPrototypePush(endTagOf(document, token.element).handlers, handler);
  }
}
webidl.configureInterface(Element);

function indexOf(attributes, name) {
  for (let i = 0; i < attributes.length; i++) if (attributes[i][0] === name) return i;
  return -1;
}

// What is known of the end tag of an element.
function endTagOf(document, element) {
  let found = MapPrototypeGet(document.endTags, element);
  if (found === undefined) {
    found = { __proto__: null, handlers: [], name: undefined };
    MapPrototypeSet(document.endTags, element, found);
  }
  return found;
}

// The attributes of an element are about to change: iterators over them end.
function changing(token) {
  token.version++;
  return token;
}

function makeIterator(state) {
  const { attributes, version } = state.token;
  let next = 0;
  const iterator = ObjectCreate(AttributesIteratorPrototype);
  ObjectDefineProperty(iterator, NEXT, {
    __proto__: null,
    value() {
      if (live(state).token.version !== version) {
        throw new TypeError(
          "The attributes of this element have been modified during iteration. You must create a new iterator after modifying attributes.",
        );
      }
      if (next === attributes.length) return { value: undefined, done: true };
      const { 0: name, 1: value } = attributes[next++];
      return { value: [name, value], done: false };
    },
  });
  return iterator;
}

const NEXT = Symbol("next");
const AttributesIteratorPrototype = ObjectCreate(IteratorPrototype, {
  next: {
    __proto__: null,
    configurable: true,
    enumerable: false,
    writable: true,
    value: function next() {
      return this[NEXT]();
    },
  },
});

class EndTag extends Neighboured {
  get name() {
    return live(stateOf(this)).token.name;
  }

  set name(name) {
    name = String(name);
    changePlainly(stateOf(this), SET_NAME, name);
    stateOf(this).token.name = asciiLower(name);
  }
}
webidl.configureInterface(EndTag);

class Text extends Content {
  get text() {
    return live(stateOf(this)).token.text;
  }

  get lastInTextNode() {
    return live(stateOf(this)).token.last;
  }
}
webidl.configureInterface(Text);

class Comment extends Content {
  get text() {
    return live(stateOf(this)).token.text;
  }

  set text(text) {
    text = String(text);
    changePlainly(stateOf(this), SET_TEXT, text);
    stateOf(this).token.text = text;
  }
}
webidl.configureInterface(Comment);

class Doctype extends Part {
  get name() {
    return live(stateOf(this)).token.name;
  }

  get publicId() {
    return live(stateOf(this)).token.publicId;
  }

  get systemId() {
    return live(stateOf(this)).token.systemId;
  }
}
webidl.configureInterface(Doctype);

class DocumentEnd extends Part {
  append(content, options = undefined) {
    change(stateOf(this), APPEND, content, options);
    return this;
  }
}
webidl.configureInterface(DocumentEnd);

// For each kind of token: the class of its objects, and the method that takes them.
const KINDS = {
  __proto__: null,
  comment: { __proto__: null, Class: Comment, method: "comments" },
  doctype: { __proto__: null, Class: Doctype, method: "doctype" },
  element: { __proto__: null, Class: Element, method: "element" },
  end: { __proto__: null, Class: DocumentEnd, method: "end" },
  text: { __proto__: null, Class: Text, method: "text" },
};

// The methods of a handler object that are there.
function collect(object, flags, selector) {
  if ((typeof object !== "object" && typeof object !== "function") || object === null) {
    throw new TypeError(`handlers must be an object, not ${object === null ? "null" : typeof object}`);
  }
  const found = { __proto__: null, object, selector, wanted: 0 };
  for (const name in flags) {
    const method = object[name];
    if (method === undefined || method === null) continue;
    if (typeof method !== "function") {
      throw new TypeError(`'${name}' of the handlers must be a function, not ${typeof method}`);
    }
    found[name] = method;
    found.wanted |= flags[name];
  }
  return found;
}

class HTMLRewriter {
  #handlers = [];

  on(selector, handlers) {
    webidl.requiredArguments(arguments.length, 2, "Failed to execute 'on' on 'HTMLRewriter'");
    selector = String(selector);
    op_html_check_selector(selector);
    this.#add(collect(handlers, OF_ELEMENTS, selector));
    return this;
  }

  onDocument(handlers) {
    webidl.requiredArguments(arguments.length, 1, "Failed to execute 'onDocument' on 'HTMLRewriter'");
    this.#add(collect(handlers, OF_DOCUMENT, null));
    return this;
  }

  #add(handlers) {
    if (this.#handlers.length === MAX_HANDLERS) {
      throw new TypeError(`a rewriter has at most ${MAX_HANDLERS} handlers`);
    }
    ArrayPrototypePush(this.#handlers, handlers);
  }

  // A response whose body is the given one's, rewritten as it is read.
  transform(response) {
    webidl.assertBranded(response, ResponsePrototype);
    const body = ReflectApply(bodyOf, response, []);
    if (body === null) return response;
    if (isReadableStreamDisturbed(body)) throw new TypeError("the body of the response has been read already");
    const stream = rewrite(this.#handlers, body, charsetOf(response));
    const transformed = new Response(stream, response);
    // The length that the origin states is that of another body.
    ReflectApply(deleteHeader, ReflectApply(headersOf, transformed, []), ["content-length"]);
    return transformed;
  }
}
webidl.configureInterface(HTMLRewriter);

function charsetOf(response) {
  const type = ReflectApply(getHeader, ReflectApply(headersOf, response, []), ["content-type"]);
  const parameters = type === null ? undefined : parseMimeType(type)?.parameters;
  const charset = parameters === undefined ? undefined : MapPrototypeGet(parameters, "charset");
  return charset === undefined || charset === "" ? "utf-8" : charset;
}

// One document on its way. Errors end it, and fail the stream that it is read from.
class Document {
  endTags = new SafeMap(); // element -> { handlers, name }
  #handlers;
  #id;
  #reader;
  #context = core.getAsyncContext();
  #chunk = new Uint8Array(0); // what is left of what was read
  #token; // of the last call
  #state; // what is behind the object of the handler that is at work
  #open = true;

  constructor(handlers, body, charset) {
    const selectors = [];
    const wanted = [];
    // Handlers that are added later are for other responses.
    this.#handlers = [];
    for (let i = 0; i < handlers.length; i++) {
      ArrayPrototypePush(selectors, handlers[i].selector);
      ArrayPrototypePush(wanted, handlers[i].wanted);
      ArrayPrototypePush(this.#handlers, handlers[i]);
    }
    this.#id = op_html_open(selectors, wanted, charset);
    try {
      this.#reader = new ReadableStreamDefaultReader(body);
    } catch (error) {
      op_html_close(this.#id);
      throw error;
    }
  }

  get id() {
    return this.#id;
  }

  close() {
    this.#open = false;
    if (this.#state !== undefined) this.#state.live = false;
    op_html_close(this.#id);
  }

  cancel(reason) {
    this.close();
    return ReflectApply(cancelReader, this.#reader, [reason]);
  }

  // Rewrites until something is written, or the document is at its end.
  async pull(controller) {
    try {
      while (this.#open) {
        const more = await this.#read();
        if (!this.#open) return;
        await this.#visits();
        if (!this.#open) return;
        const written = this.#write(controller);
        if (!more) {
          this.close();
          end(controller);
          return;
        }
        if (written) return;
      }
    } catch (error) {
      if (!this.#open) return;
      this.close();
      const cancelled = ReflectApply(cancelReader, this.#reader, [error]);
      // What comes of that is nobody's affair: the error is reported here.
      PromisePrototypeThen(cancelled, undefined, () => {});
      throw error;
    }
  }

  // Has the next piece read, or the document's end; false for the end.
  async #read() {
    while (TypedArrayPrototypeGetByteLength(this.#chunk) === 0) {
      const { done, value } = await ReflectApply(readChunk, this.#reader, []);
      if (!this.#open) return false;
      if (done) {
        op_html_read_end(this.#id);
        return false;
      }
      this.#chunk = checkChunk(value);
    }
    const chunk = this.#chunk;
    const size = MathMin(TypedArrayPrototypeGetByteLength(chunk), MAX_PIECE);
    this.#chunk = TypedArrayPrototypeSubarray(chunk, size);
    op_html_read(this.#id, TypedArrayPrototypeSubarray(chunk, 0, size));
    return true;
  }

  async #visits() {
    for (let visit; this.#open && (visit = op_html_next(this.#id)) !== null;) {
      const { handler, token } = visit;
      if (token !== null) {
        if (token.kind !== "endTag") token.removed = false;
        if (token.kind === "element") token.version = 0;
        this.#token = token;
      }
      if (handler < 0) {
        await this.#endTag();
        continue;
      }
      const { Class, method } = KINDS[this.#token.kind];
      const { object, [method]: fn } = this.#handlers[handler];
      const pending = this.#call(fn, object, Class);
      if (pending !== undefined) await pending;
      const later = this.#over();
      if (later !== undefined) await this.#change(later);
    }
  }

  // Makes changes that wait for their content, and those after them.
  async #change(later) {
    for (let i = 0; i < later.length; i++) {
      const { kind, a, b, html, pending } = later[i];
      const content = pending === undefined ? a : await pending;
      if (!this.#open) return;
      op_html_change(this.#id, kind, content, b, html);
    }
  }

  async #endTag() {
    const token = this.#token;
    const known = MapPrototypeGet(this.endTags, token.element);
    if (known === undefined) return;
    MapPrototypeDelete(this.endTags, token.element);
    if (known.name !== undefined) token.name = known.name;
    for (let i = 0; this.#open && i < known.handlers.length; i++) {
      const pending = this.#call(known.handlers[i], undefined, EndTag);
      if (pending !== undefined) await pending;
      const later = this.#over();
      if (later !== undefined) await this.#change(later);
    }
  }

  // Calls a handler; what it gives that is to be waited for.
  #call(fn, self, Class) {
    const state = {
      __proto__: null,
      id: this.#id,
      token: this.#token,
      document: this,
      live: true,
      later: undefined,
    };
    this.#state = state;
    const before = core.getAsyncContext();
    core.setAsyncContext(this.#context);
    try {
      const result = ReflectApply(fn, self, [new Class(ours, state)]);
      const waits = (typeof result === "object" && result !== null) || typeof result === "function";
      return waits ? result : undefined;
    } finally {
      core.setAsyncContext(before);
    }
  }

  // The handler is done. Gives the changes that are to be made now, if there are any.
  #over() {
    const state = this.#state;
    if (state === undefined) return undefined;
    state.live = false;
    this.#state = undefined;
    return state.later;
  }

  // Whether anything was written.
  #write(controller) {
    const length = op_html_write(this.#id);
    if (length === 0) return false;
    const bytes = new Uint8Array(length);
    op_html_take(this.#id, bytes);
    readableByteStreamControllerEnqueue(controller, bytes);
    return true;
  }
}

function checkChunk(value) {
  const bytes = typeof value === "object" && value !== null &&
    TypedArrayPrototypeGetSymbolToStringTag(value) === "Uint8Array";
  if (!bytes) {
    throw new TypeError("a body to be rewritten must give bytes (Uint8Array)");
  }
  return value;
}

// Closes the stream, whose reader may wait with a buffer of its own.
function end(controller) {
  readableByteStreamControllerClose(controller);
  if (ReflectApply(byobRequestOf, controller, []) !== null) {
    readableByteStreamControllerRespond(controller, 0);
  }
}

function rewrite(handlers, body, charset) {
  const document = new Document(handlers, body, charset);
  const stream = new ReadableStream({
    __proto__: null,
    type: "bytes",
    pull: (controller) => document.pull(controller),
    cancel: (reason) => document.cancel(reason),
  }, { __proto__: null, highWaterMark: AHEAD });
  forgotten.register(stream, document.id);
  return stream;
}

return { HTMLRewriter };
})();
