// A database of SQLite, by the interface of Cloudflare's D1 with interactive transactions.
//
// A value travels as null, a number, a text or bytes; an integer that a number cannot hold as `{ i: "..." }`, a number
// that JSON cannot hold as `{ r: "..." }`.

(function () {
const { core, primordials } = __bootstrap;
const {
  ArrayBufferIsView,
  ArrayIsArray,
  ArrayPrototypePush,
  BigInt,
  BigIntPrototypeToString,
  Number,
  NumberIsFinite,
  NumberIsSafeInteger,
  ObjectDefineProperty,
  ObjectHasOwn,
  PromisePrototypeThen,
  PromiseReject,
  String,
  TypeError,
} = primordials;
const webidl = core.loadExtScript("ext:deno_webidl/00_webidl.js");
const { attempt, call, checkText } = core.loadExtScript("ext:stockade_realm/binding_calls.js");
const { toData } = core.loadExtScript("ext:stockade_realm/websocket.js");

const ours = { __proto__: null };

// A value for the statement.
function toWire(value, index) {
  switch (typeof value) {
    case "string":
      return checkText(value, `parameter ${index + 1}`);
    case "number":
      return NumberIsFinite(value) ? value : { __proto__: null, r: String(value) };
    case "bigint":
      return { __proto__: null, i: BigIntPrototypeToString(value) };
    case "boolean":
      return value ? 1 : 0;
    case "object":
      if (value === null) return null;
      if (ArrayBufferIsView(value) || core.isArrayBuffer(value)) return toData(value);
      break;
    default:
      break;
  }
  const what = typeof value === "object" ? "an object that is neither bytes nor null" : typeof value;
  throw new TypeError(
    `parameter ${index + 1} is ${what}: a database takes null, numbers, bigints, booleans, texts and bytes`,
  );
}

function fromWire(value) {
  if (typeof value !== "object" || value === null || ArrayBufferIsView(value)) return value;
  if (value.i !== undefined) {
    const whole = BigInt(value.i);
    const number = Number(whole);
    return NumberIsSafeInteger(number) ? number : whole;
  }
  return Number(value.r);
}

function rowOf(columns, values) {
  const row = {};
  for (let i = 0; i < columns.length; i++) {
    const name = columns[i];
    const value = fromWire(values[i]);
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
  return row;
}

// What D1 calls a D1Result.
function resultOf(answer) {
  const results = [];
  for (let i = 0; i < answer.rows.length; i++) {
    ArrayPrototypePush(results, rowOf(answer.columns, answer.rows[i]));
  }
  return {
    success: true,
    results,
    meta: {
      // In milliseconds.
      duration: answer.micros / 1000,
      changes: answer.changes,
      changed_db: answer.changes > 0,
      last_row_id: fromWire(answer.lastRowId),
      size_after: answer.size,
      steps: answer.steps,
    },
  };
}

function resultsOf(answers) {
  const results = [];
  for (let i = 0; i < answers.length; i++) ArrayPrototypePush(results, resultOf(answers[i]));
  return results;
}

// Where statements run: the database, or one of its transactions.
class Target {
  constructor(binding, handle) {
    this.binding = binding;
    this.handle = handle;
    this.ended = false;
  }

  call(method, request) {
    if (this.ended) throw new TypeError("the transaction has ended");
    if (this.handle !== undefined) request.handle = this.handle;
    return call(this.binding, method, [request]);
  }

  run(statements) {
    return this.call("run", { __proto__: null, statements });
  }
}

class SqlStatement {
  #target;
  #sql;
  #parameters;

  constructor(key, target, sql, parameters) {
    if (key !== ours) webidl.illegalConstructor();
    this.#target = target;
    this.#sql = sql;
    this.#parameters = parameters;
  }

  bind(...values) {
    const parameters = [];
    for (let i = 0; i < values.length; i++) ArrayPrototypePush(parameters, toWire(values[i], i));
    return new SqlStatement(ours, this.#target, this.#sql, parameters);
  }

  all() {
    return attempt(() => PromisePrototypeThen(this.#run(), resultOf));
  }

  run() {
    return attempt(() => PromisePrototypeThen(this.#run(), resultOf));
  }

  first(column = undefined) {
    return attempt(() =>
      PromisePrototypeThen(this.#run(), (answer) => {
        if (answer.rows.length === 0) return null;
        const row = rowOf(answer.columns, answer.rows[0]);
        if (column === undefined || column === null) return row;
        const name = `${column}`;
        if (!ObjectHasOwn(row, name)) throw new TypeError(`the statement has no column '${name}'`);
        return row[name];
      })
    );
  }

  raw(options = undefined) {
    return attempt(() =>
      PromisePrototypeThen(this.#run(), (answer) => {
        const rows = [];
        if (options?.columnNames) ArrayPrototypePush(rows, answer.columns);
        for (let i = 0; i < answer.rows.length; i++) {
          const values = answer.rows[i];
          for (let j = 0; j < values.length; j++) values[j] = fromWire(values[j]);
          ArrayPrototypePush(rows, values);
        }
        return rows;
      })
    );
  }

  #run() {
    return PromisePrototypeThen(this.#target.run([[this.#sql, this.#parameters]]), (answers) => answers[0]);
  }

  // The statement as it travels, for `batch` of the target that it was prepared for.
  static wire(statement, target) {
    if (typeof statement !== "object" || statement === null || !(#target in statement)) {
      throw new TypeError("a batch takes an array of prepared statements");
    }
    if (statement.#target !== target) {
      throw new TypeError("a statement of a batch was prepared for another database or transaction");
    }
    return [statement.#sql, statement.#parameters];
  }
}
webidl.configureInterface(SqlStatement);
const { wire } = SqlStatement;
delete SqlStatement.wire;

function prepare(target, sql) {
  if (typeof sql !== "string") throw new TypeError(`a statement must be a string, not ${typeof sql}`);
  return new SqlStatement(ours, target, checkText(sql, "a statement"), []);
}

function batch(target, statements) {
  return attempt(() => {
    if (!ArrayIsArray(statements)) throw new TypeError("a batch takes an array of prepared statements");
    const all = [];
    for (let i = 0; i < statements.length; i++) ArrayPrototypePush(all, wire(statements[i], target));
    return PromisePrototypeThen(target.run(all), resultsOf);
  });
}

function execute(target, sql) {
  return attempt(() => {
    if (typeof sql !== "string") throw new TypeError(`statements must be a string, not ${typeof sql}`);
    return PromisePrototypeThen(
      target.call("exec", { __proto__: null, sql: checkText(sql, "a statement") }),
      (answer) => ({ count: answer.count, duration: answer.micros / 1000 }),
    );
  });
}

class SqlTransaction {
  #target;

  constructor(key, target) {
    if (key !== ours) webidl.illegalConstructor();
    this.#target = target;
  }

  prepare(sql) {
    return prepare(this.#target, sql);
  }

  batch(statements) {
    return batch(this.#target, statements);
  }

  exec(sql) {
    return execute(this.#target, sql);
  }
}
webidl.configureInterface(SqlTransaction);

class SqlDatabase {
  #target;

  constructor(key, binding) {
    if (key !== ours) webidl.illegalConstructor();
    this.#target = new Target(binding, undefined);
  }

  prepare(sql) {
    return prepare(this.#target, sql);
  }

  batch(statements) {
    return batch(this.#target, statements);
  }

  exec(sql) {
    return execute(this.#target, sql);
  }

  // Runs `work` in a transaction, which is committed when its promise is fulfilled and rolled back when it is
  // rejected.
  transaction(work) {
    return attempt(() => {
      if (typeof work !== "function") throw new TypeError("a transaction takes a function");
      const { binding } = this.#target;
      return PromisePrototypeThen(call(binding, "begin", [{ __proto__: null }]), (handle) => {
        const target = new Target(binding, handle);
        const end = (method) => {
          target.ended = true;
          return call(binding, method, [{ __proto__: null, handle }]);
        };
        const done = attempt(() => work(new SqlTransaction(ours, target)));
        return PromisePrototypeThen(
          done,
          (value) => PromisePrototypeThen(end("commit"), () => value),
          (error) => {
            const fail = () => PromiseReject(error);
            // What went wrong first is what the caller must learn, also when the transaction had ended before.
            return PromisePrototypeThen(end("rollback"), fail, fail);
          },
        );
      });
    });
  }

  // D1's sessions choose a replica. A database here has one.
  withSession() {
    return this;
  }
}
webidl.configureInterface(SqlDatabase);

function create(binding) {
  return new SqlDatabase(ours, binding);
}

return { create };
})();
