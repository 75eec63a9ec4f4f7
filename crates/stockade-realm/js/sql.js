// Statements for a database of PostgreSQL or MySQL, by the interface of npm's `postgres`.
//
// A statement is sent when it is awaited. Its parameters travel apart from its text, each as null, a boolean, a number, a
// text or bytes; an integer that a number cannot hold as `{ i: "..." }`, a number that JSON cannot hold as
// `{ r: "..." }`. The values of a result come as bytes: of each its length, or -1 for NULL, and its text.

(function () {
const { core, primordials } = __bootstrap;
const {
  ArrayBufferIsView,
  ArrayIsArray,
  ArrayPrototypeJoin,
  ArrayPrototypePush,
  BigInt,
  BigIntPrototypeToString,
  DataView,
  DataViewPrototypeGetInt32,
  Date,
  DatePrototypeGetTime,
  DatePrototypeToISOString,
  DateUTC,
  JSONParse,
  JSONStringify,
  Number,
  NumberIsFinite,
  NumberIsNaN,
  NumberIsSafeInteger,
  NumberParseInt,
  NumberPrototypeToString,
  ObjectDefineProperty,
  PromisePrototypeThen,
  PromiseReject,
  PromiseResolve,
  RangeError,
  RegExpPrototypeExec,
  SafePromiseAll,
  SafeRegExp,
  String,
  StringPrototypeCharCodeAt,
  StringPrototypeEndsWith,
  StringPrototypePadStart,
  StringPrototypeReplaceAll,
  StringPrototypeSlice,
  StringPrototypeStartsWith,
  StringPrototypeToLowerCase,
  SymbolAsyncIterator,
  SymbolToStringTag,
  TypedArrayPrototypeGetBuffer,
  TypedArrayPrototypeGetByteLength,
  TypedArrayPrototypeGetByteOffset,
  TypedArrayPrototypeSlice,
  TypedArrayPrototypeSubarray,
  TypeError,
  Uint8Array,
} = primordials;
const webidl = core.loadExtScript("ext:deno_webidl/00_webidl.js");
const { attempt, call, checkText, valueOf } = core.loadExtScript("ext:stockade_realm/binding_calls.js");
const { toData } = core.loadExtScript("ext:stockade_realm/websocket.js");

const ours = { __proto__: null };

// Rows of a part of a cursor's result, where nothing else is said.
const ROWS = 100;

// What the two languages write otherwise. `isArray`: whether values of columns can be arrays.
const dialects = {
  __proto__: null,
  postgresql: { __proto__: null, quote: '"', isArray: true, placeholder: (number) => "$" + number },
  mysql: { __proto__: null, quote: "`", isArray: false, placeholder: () => "?" },
};

// Parameters.

class Json {
  constructor(value) {
    this.value = value;
  }
}

class Identifier {
  constructor(name) {
    this.name = name;
  }
}

function jsonText(value, what) {
  const text = JSONStringify(value);
  if (text === undefined) throw new TypeError(`${what} is not a value of JSON`);
  return text;
}

function dateText(dialect, date, what) {
  if (NumberIsNaN(DatePrototypeGetTime(date))) throw new TypeError(`${what} is an invalid date`);
  const text = DatePrototypeToISOString(date);
  if (dialect.isArray) return text;
  // 2026-02-03T04:05:06.789Z without the letters.
  return StringPrototypeReplaceAll(StringPrototypeSlice(text, 0, -1), "T", " ");
}

function toWire(dialect, value, what) {
  switch (typeof value) {
    case "string":
      return checkText(value, what);
    case "number":
      return NumberIsFinite(value) ? value : { __proto__: null, r: String(value) };
    case "bigint":
      return { __proto__: null, i: BigIntPrototypeToString(value) };
    case "boolean":
      return value;
    case "object":
      if (value === null) return null;
      if (ArrayBufferIsView(value) || core.isArrayBuffer(value)) return toData(value);
      if (core.isDate(value)) return dateText(dialect, value, what);
      if (value instanceof Json) return checkText(jsonText(value.value, what), what);
      if (ArrayIsArray(value) && dialect.isArray) return checkText(arrayText(dialect, value, what), what);
      return checkText(jsonText(value, what), what);
    default:
      throw new TypeError(`${what} is ${typeof value}: null stands for a value that is not there`);
  }
}

// An array as PostgreSQL reads it: https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO
function arrayText(dialect, array, what) {
  const texts = [];
  for (let i = 0; i < array.length; i++) {
    const value = array[i];
    if (ArrayIsArray(value)) {
      ArrayPrototypePush(texts, arrayText(dialect, value, what));
    } else if (value === null) {
      ArrayPrototypePush(texts, "NULL");
    } else {
      const wire = toWire(dialect, value, what);
      ArrayPrototypePush(texts, quoted(typeof wire === "object" ? wire.i ?? wire.r ?? byteaText(wire) : String(wire)));
    }
  }
  return `{${ArrayPrototypeJoin(texts, ",")}}`;
}

function quoted(text) {
  return `"${StringPrototypeReplaceAll(StringPrototypeReplaceAll(text, "\\", "\\\\"), '"', '\\"')}"`;
}

function byteaText(bytes) {
  let text = "\\x";
  for (let i = 0; i < bytes.length; i++) {
    text += StringPrototypePadStart(NumberPrototypeToString(bytes[i], 16), 2, "0");
  }
  return text;
}

// Results.

function integerOf(text) {
  const number = Number(text);
  return NumberIsSafeInteger(number) ? number : BigInt(text);
}

const TIME = new SafeRegExp(
  "^(\\d{4,6})-(\\d\\d)-(\\d\\d)(?:[ T](\\d\\d):(\\d\\d):(\\d\\d)(?:\\.(\\d{1,9}))?)?(?:([+-])(\\d\\d)(?::?(\\d\\d))?(?::?(\\d\\d))?)?$",
);

// What JavaScript has no date for, such as 'infinity' or '0000-00-00', stays a text.
function dateOf(text) {
  const parts = RegExpPrototypeExec(TIME, text);
  if (parts === null) return text;
  const year = Number(parts[1]);
  const month = Number(parts[2]);
  if (year < 100 || month < 1 || parts[3] === "00") return text;
  const millis = parts[7] === undefined ? 0 : NumberParseInt(StringPrototypeSlice(parts[7] + "00", 0, 3), 10);
  let time = DateUTC(
    year,
    month - 1,
    Number(parts[3]),
    Number(parts[4] ?? 0),
    Number(parts[5] ?? 0),
    Number(parts[6] ?? 0),
    millis,
  );
  if (parts[8] !== undefined) {
    const seconds = Number(parts[9]) * 3600 + Number(parts[10] ?? 0) * 60 + Number(parts[11] ?? 0);
    time -= (parts[8] === "-" ? -seconds : seconds) * 1000;
  }
  return NumberIsNaN(time) ? text : new Date(time);
}

// `\x00ff`, or the older form: bytes as they are, a backslash before three octal digits or another backslash.
function byteaOf(text) {
  const bytes = [];
  if (StringPrototypeStartsWith(text, "\\x")) {
    const hex = new Uint8Array((text.length - 2) / 2);
    for (let i = 0; i < hex.length; i++) {
      hex[i] = NumberParseInt(StringPrototypeSlice(text, 2 + 2 * i, 4 + 2 * i), 16);
    }
    return hex;
  }
  for (let i = 0; i < text.length; i++) {
    if (text[i] !== "\\") {
      ArrayPrototypePush(bytes, StringPrototypeCharCodeAt(text, i));
    } else if (text[i + 1] === "\\") {
      ArrayPrototypePush(bytes, 0x5c);
      i++;
    } else {
      ArrayPrototypePush(bytes, NumberParseInt(StringPrototypeSlice(text, i + 1, i + 4), 8));
      i += 3;
    }
  }
  return new Uint8Array(bytes);
}

const ofText = {
  __proto__: null,
  text: (text) => text,
  boolean: (text) => text === "t",
  number: Number,
  integer: integerOf,
  json: JSONParse,
  date: dateOf,
  bytea: byteaOf,
};

// Reads an array of PostgreSQL. Bounds may come first, as in `[0:1]={1,2}`.
function arrayOf(text, convert) {
  let at = 0;
  if (text[0] === "[") while (at < text.length && text[at] !== "{") at++;
  const read = () => {
    const values = [];
    at++;
    while (at < text.length && text[at] !== "}") {
      if (text[at] === ",") {
        at++;
      } else if (text[at] === "{") {
        ArrayPrototypePush(values, read());
      } else if (text[at] === '"') {
        let value = "";
        for (at++; at < text.length && text[at] !== '"'; at++) {
          if (text[at] === "\\") at++;
          value += text[at];
        }
        at++;
        ArrayPrototypePush(values, convert(value));
      } else {
        const begin = at;
        while (at < text.length && text[at] !== "," && text[at] !== "}") at++;
        const value = StringPrototypeSlice(text, begin, at);
        ArrayPrototypePush(values, value === "NULL" ? null : convert(value));
      }
    }
    at++;
    return values;
  };
  return read();
}

// What makes a value of a column's bytes.
function converterOf(kind) {
  if (kind === "bytes") return TypedArrayPrototypeSlice;
  const isArray = StringPrototypeEndsWith(kind, "[]");
  const convert = ofText[isArray ? StringPrototypeSlice(kind, 0, -2) : kind];
  const text = (bytes) => valueOf(bytes, "text");
  return isArray ? (bytes) => arrayOf(text(bytes), convert) : (bytes) => convert(text(bytes));
}

function setOn(row, name, value) {
  if (name === "__proto__") {
    ObjectDefineProperty(row, name, {
      __proto__: null,
      value,
      writable: true,
      enumerable: true,
      configurable: true,
    });
  } else {
    row[name] = value;
  }
}

function hidden(object, name, value) {
  ObjectDefineProperty(object, name, { __proto__: null, value, writable: true, configurable: true });
}

// The rows of an answer: an array, which also has what else the database said.
function rowsOf(answer, asValues) {
  const { columns, cells } = answer;
  const converters = [];
  const described = [];
  for (let i = 0; i < columns.length; i++) {
    ArrayPrototypePush(converters, converterOf(columns[i][1]));
    ArrayPrototypePush(described, { name: columns[i][0], type: columns[i][1] });
  }
  const rows = [];
  const view = cells === null ? undefined : new DataView(
    TypedArrayPrototypeGetBuffer(cells),
    TypedArrayPrototypeGetByteOffset(cells),
    TypedArrayPrototypeGetByteLength(cells),
  );
  let at = 0;
  for (let i = 0; i < answer.rows; i++) {
    const row = asValues ? [] : {};
    for (let j = 0; j < columns.length; j++) {
      const length = DataViewPrototypeGetInt32(view, at);
      at += 4;
      let value = null;
      if (length >= 0) {
        value = converters[j](TypedArrayPrototypeSubarray(cells, at, at + length));
        at += length;
      }
      if (asValues) ArrayPrototypePush(row, value);
      else setOn(row, columns[j][0], value);
    }
    ArrayPrototypePush(rows, row);
  }
  hidden(rows, "columns", described);
  hidden(rows, "count", answer.count);
  hidden(rows, "command", answer.command);
  if (answer.lastInsertId !== undefined) hidden(rows, "lastInsertId", integerOf(answer.lastInsertId));
  return rows;
}

// Errors. The message of a database's error is JSON with its members.

function explained(error) {
  if (error?.name !== "DatabaseError") return error;
  let members;
  try {
    members = JSONParse(error.message);
  } catch {
    return error;
  }
  const begin = `DatabaseError: ${error.message}`;
  const { message } = members;
  if (StringPrototypeStartsWith(error.stack, begin)) {
    hidden(error, "stack", `DatabaseError: ${message}${StringPrototypeSlice(error.stack, begin.length)}`);
  }
  hidden(error, "message", message);
  for (const name of ["errno", "detail", "hint", "schema", "table", "column", "constraint", "position"]) {
    if (members[name] !== null) error[name] = members[name];
  }
  return error;
}

function ask(binding, method, request) {
  return PromisePrototypeThen(call(binding, method, [request]), undefined, (error) => {
    throw explained(error);
  });
}

// Where statements run: the database, or one of its transactions.
class Target {
  constructor(binding, dialect, handle) {
    this.binding = binding;
    this.dialect = dialect;
    this.handle = handle;
    this.ended = false;
    this.savepoints = 0;
  }

  ask(method, request) {
    if (this.ended) throw new TypeError("the transaction has ended");
    if (this.handle !== undefined) request.handle = this.handle;
    return ask(this.binding, method, request);
  }

  query(sql, parameters, rows = undefined) {
    return this.ask("query", { __proto__: null, sql, parameters, rows });
  }
}

// The text and the parameters of a statement.
class Builder {
  constructor(dialect) {
    this.dialect = dialect;
    this.text = "";
    this.parameters = [];
  }

  add(strings, values) {
    for (let i = 0; i < strings.length; i++) {
      this.text += strings[i];
      if (i === strings.length - 1) break;
      const value = values[i];
      const fragment = fragmentOf(value);
      if (fragment !== undefined) {
        if (fragment.values === undefined) {
          throw new TypeError("a statement of unsafe() with parameters cannot be a part of another one");
        }
        this.add(fragment.strings, fragment.values);
      } else if (value instanceof Identifier) {
        const { quote } = this.dialect;
        const name = StringPrototypeReplaceAll(value.name, quote, quote + quote);
        this.text += quote + StringPrototypeReplaceAll(name, ".", `${quote}.${quote}`) + quote;
      } else {
        const what = `parameter ${this.parameters.length + 1}`;
        ArrayPrototypePush(this.parameters, toWire(this.dialect, value, what));
        this.text += this.dialect.placeholder(this.parameters.length);
      }
    }
  }
}

// The rows of a statement in parts, of which each is asked for when it is needed.
class SqlCursor {
  #open;
  #next;
  #end;
  #tail = PromiseResolve();
  #state = "new";

  constructor(key, open, next, end) {
    if (key !== ours) webidl.illegalConstructor();
    this.#open = open;
    this.#next = next;
    this.#end = end;
  }

  // Calls wait for each other.
  #after(work) {
    const done = PromisePrototypeThen(this.#tail, work);
    this.#tail = PromisePrototypeThen(done, undefined, () => {});
    return done;
  }

  next() {
    return this.#after(() => {
      if (this.#state === "done") return { value: undefined, done: true };
      const asked = this.#state === "new" ? this.#open() : this.#next();
      return PromisePrototypeThen(asked, ({ rows, hasMore }) => {
        this.#state = hasMore ? "open" : "done";
        const given = rows.length === 0 ? { value: undefined, done: true } : { value: rows, done: false };
        if (hasMore) return given;
        return PromisePrototypeThen(this.#end(true), () => given);
      }, (error) => {
        this.#state = "done";
        const fail = () => PromiseReject(error);
        return PromisePrototypeThen(this.#end(false), fail, fail);
      });
    });
  }

  return(value = undefined) {
    return this.#after(() => {
      const wasOpen = this.#state === "open";
      this.#state = "done";
      const given = { value, done: true };
      return wasOpen ? PromisePrototypeThen(this.#end(true), () => given) : given;
    });
  }

  [SymbolAsyncIterator]() {
    return this;
  }
}
webidl.configureInterface(SqlCursor);

let fragmentOf;

// A statement, or a part of one. It runs when it is awaited, once.
class SqlQuery {
  #target;
  #strings;
  #values;
  #asValues = false;
  #promise;

  static {
    fragmentOf = (value) => {
      if (typeof value !== "object" || value === null || !(#target in value)) return undefined;
      return { strings: value.#strings, values: value.#values };
    };
  }

  constructor(key, target, strings, values) {
    if (key !== ours) webidl.illegalConstructor();
    this.#target = target;
    this.#strings = strings;
    this.#values = values;
  }

  // Text and parameters. Those of `unsafe` are there already.
  #built() {
    if (this.#values === undefined) return this.#strings;
    const builder = new Builder(this.#target.dialect);
    builder.add(this.#strings, this.#values);
    return { text: checkText(builder.text, "a statement"), parameters: builder.parameters };
  }

  #run() {
    this.#promise ??= attempt(() => {
      const { text, parameters } = this.#built();
      const asked = this.#target.query(text, parameters);
      return PromisePrototypeThen(asked, (answer) => rowsOf(answer, this.#asValues));
    });
    return this.#promise;
  }

  // Each row as an array, in which columns of one name do not replace each other.
  values() {
    this.#asValues = true;
    return this;
  }

  execute() {
    PromisePrototypeThen(this.#run(), undefined, () => {});
    return this;
  }

  then(fulfilled = undefined, rejected = undefined) {
    return PromisePrototypeThen(this.#run(), fulfilled, rejected);
  }

  catch(rejected) {
    return PromisePrototypeThen(this.#run(), undefined, rejected);
  }

  finally(work) {
    if (typeof work !== "function") return PromisePrototypeThen(this.#run());
    return PromisePrototypeThen(
      this.#run(),
      (value) => PromisePrototypeThen(PromiseResolve(work()), () => value),
      (error) => PromisePrototypeThen(PromiseResolve(work()), () => PromiseReject(error)),
    );
  }

  get [SymbolToStringTag]() {
    return "SqlQuery";
  }

  cursor(rows = ROWS) {
    if (typeof rows !== "number" || !(rows >= 1 && rows <= 1_000_000)) {
      throw new RangeError("a part of a result has from 1 to 1000000 rows");
    }
    const outer = this.#target;
    const count = rows - rows % 1;
    let target = outer;
    let cursor;
    const part = (answer) => {
      cursor = answer.cursor;
      return { rows: rowsOf(answer, this.#asValues), hasMore: cursor !== undefined };
    };
    const open = () =>
      attempt(() => {
        const { text, parameters } = this.#built();
        const run = () => PromisePrototypeThen(target.query(text, parameters, count), part);
        if (outer.handle !== undefined) return run();
        // A cursor needs a transaction: this is its own.
        return PromisePrototypeThen(begun(outer, {}), (own) => {
          target = own;
          return run();
        });
      });
    const next = () =>
      attempt(() =>
        PromisePrototypeThen(target.ask("fetch", { __proto__: null, cursor, rows: count }), part)
      );
    const end = (commits) =>
      attempt(() => {
        if (target !== outer) return finished(target, commits ? "commit" : "rollback");
        if (cursor === undefined || !commits || target.ended) return undefined;
        return target.ask("close", { __proto__: null, cursor });
      });
    return new SqlCursor(ours, open, next, end);
  }
}
webidl.configureInterface(SqlQuery);

// Transactions.

function begun(target, options) {
  const { isolation, readOnly } = options;
  const request = {
    __proto__: null,
    isolation: isolation === undefined ? null : StringPrototypeToLowerCase(String(isolation)),
    readOnly: readOnly === true,
  };
  const asked = ask(target.binding, "begin", request);
  return PromisePrototypeThen(asked, (handle) => new Target(target.binding, target.dialect, handle));
}

function finished(target, how) {
  target.ended = true;
  return ask(target.binding, how, { __proto__: null, handle: target.handle });
}

// What `work` gives; of an array, what each of it gives.
function resultOf(work, sql) {
  return PromisePrototypeThen(
    attempt(() => work(sql)),
    (value) => ArrayIsArray(value) && value.columns === undefined ? SafePromiseAll(value) : value,
  );
}

function begin(target, options, work) {
  return attempt(() => {
    if (typeof options === "function") ({ 0: options, 1: work } = [{}, options]);
    if (typeof work !== "function") throw new TypeError("begin takes a function");
    if (typeof options !== "object" || options === null) {
      throw new TypeError("the options of begin are an object, such as { isolation: 'serializable', readOnly: true }");
    }
    return PromisePrototypeThen(begun(target, options), (own) =>
      PromisePrototypeThen(
        resultOf(work, sqlOf(own)),
        (value) => PromisePrototypeThen(finished(own, "commit"), () => value),
        (error) => {
          const fail = () => PromiseReject(error);
          // What went wrong first is what the caller must learn, also when the transaction had ended before.
          return PromisePrototypeThen(finished(own, "rollback"), fail, fail);
        },
      ));
  });
}

// Runs `work` in a part of a transaction, which is undone alone.
function savepoint(target, work) {
  return attempt(() => {
    if (typeof work !== "function") throw new TypeError("savepoint takes a function");
    const name = `stockade_${++target.savepoints}`;
    const run = (text) => target.query(text, []);
    return PromisePrototypeThen(run(`savepoint ${name}`), () =>
      PromisePrototypeThen(
        resultOf(work, sqlOf(target)),
        (value) => PromisePrototypeThen(run(`release savepoint ${name}`), () => value),
        (error) => {
          const fail = () => PromiseReject(error);
          return PromisePrototypeThen(attempt(() => run(`rollback to savepoint ${name}`)), fail, fail);
        },
      ));
  });
}

// `sql` of a database, or of a transaction.
function sqlOf(target) {
  const sql = (first, ...values) => {
    if (ArrayIsArray(first) && ArrayIsArray(first.raw)) {
      return new SqlQuery(ours, target, first, values);
    }
    if (typeof first === "string" && values.length === 0) return new Identifier(first);
    throw new TypeError("sql takes a template, as sql`select 1`, or the name of a table or a column, as sql('name')");
  };
  const members = {
    __proto__: null,
    unsafe(text, parameters = []) {
      if (typeof text !== "string") throw new TypeError(`a statement must be a string, not ${typeof text}`);
      if (!ArrayIsArray(parameters)) throw new TypeError("the parameters of a statement are an array");
      if (parameters.length === 0) return new SqlQuery(ours, target, [text], []);
      const wires = [];
      for (let i = 0; i < parameters.length; i++) {
        ArrayPrototypePush(wires, toWire(target.dialect, parameters[i], `parameter ${i + 1}`));
      }
      const statement = { __proto__: null, text: checkText(text, "a statement"), parameters: wires };
      return new SqlQuery(ours, target, statement, undefined);
    },
    json: (value) => new Json(value),
    begin: target.handle === undefined
      ? (options, work = undefined) => begin(target, options, work)
      : (options, work = undefined) => savepoint(target, work ?? options),
  };
  if (target.handle !== undefined) members.savepoint = (work) => savepoint(target, work);
  for (const name in members) hidden(sql, name, members[name]);
  return sql;
}

// `sql` of a binding, in one of the dialects.
function create(binding, dialect) {
  return sqlOf(new Target(binding, dialects[dialect], undefined));
}

return { create };
})();
