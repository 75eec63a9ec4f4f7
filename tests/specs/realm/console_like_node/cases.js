// What guests write to their console, in pieces that begin with `//# name`. `scripts/console-of-node.mjs` writes what Node
// prints for them to `node.json`.

//# text and numbers
console.log("text", 1, -0, 1.5, NaN, Infinity, 10n, true, null, undefined);
console.log("");
console.log();
console.log(Symbol("s"), Symbol.iterator);
console.log("ends with a line feed\n");
console.log("\n");

//# format %s
console.log("%s", "text", "more");
console.log("%s %s %s", 1, -0, 10n);
console.log("%s", Symbol("s"));
console.log("%s %s", null, undefined);
console.log("%s", { a: { b: { c: 1 } } });
console.log("%s", [1, [2, [3]]]);
console.log("%s", class A {});
console.log("%s", function f() {});
console.log("%s", { toString() { return "own"; } });
console.log("%s", new Date(0));
console.log("%s", new Error("message").message);
console.log("%s");
console.log("%s and %s", "one");

//# format %d %i %f
console.log("%d %i %f", 42.5, 42.5, 42.5);
console.log("%d %i %f", "42.5", "42.5", "42.5");
console.log("%d %i %f", "x", "x", "x");
console.log("%d %i", 10n, 10n);
console.log("%d %i %f", {}, {}, {});
console.log("%d %i %f", Symbol("s"), Symbol("s"), Symbol("s"));
console.log("%d", -0);

//# format %j
console.log("%j", { a: [1, "x", null] });
console.log("%j", undefined);
console.log("%j", "text");
const circle = {};
circle.self = circle;
console.log("%j", circle);

//# format %o %O %c %%
console.log("%o", { a: 1, f() {} }.a);
console.log("%O", { a: { b: { c: { d: { e: 1 } } } } });
console.log("%cstyled%c plain", "color: red", "");
console.log("100%% %d%%", 5);
console.log("%", "%x", "%s");
console.log("%x %s", 1, 2);
console.log(1, "%s", "x");

//# format %o of objects
console.log("%o", [1, 2]);
console.log("%o", { a: { b: { c: { d: 1 } } } });

//# nested objects
console.log({ a: 1, b: "two", c: [3, 4], d: { e: { f: { g: 1 } } } });
console.log([[[[[1]]]]]);
console.log({ "a-b": 1, 2: 3, [Symbol("k")]: 4 });
console.log({ a: "it's", b: 'say "x"', c: "both ' and \"", d: "line\nbreak" });
console.log(["it's", "tab\t", "\u001b[31m"]);

//# long objects
console.log({ first: "a long text to fill the line", second: "another long text", third: "and one more text" });
console.log(Array.from({ length: 30 }, (_, i) => i));
console.log(Array.from({ length: 120 }, (_, i) => i));
console.log(Array.from({ length: 10 }, (_, i) => `item ${i}`));
console.log(Array.from({ length: 10 }, (_, i) => ({ id: i, name: `name ${i}` })));

//# long texts
console.log("x".repeat(200));
console.log(["x".repeat(200)]);
console.log({ text: "word ".repeat(30) });

//# sparse and extended arrays
console.log([1, , 3]);
console.log([, , ,]);
console.log(Object.assign([1, 2], { extra: true }));
console.log(new Array(5));

//# maps and sets
console.log(new Map([["a", 1], [{ k: 1 }, new Map([[1, 2]])]]));
console.log(new Set([1, "two", [3]]));
console.log(new Map(), new Set());
console.log(new WeakMap(), new WeakSet());
console.log(new Map([["a", 1]]).entries(), new Set([1]).values(), new Map([["a", 1]]).keys());

//# classes and instances
class Point { constructor(x) { this.x = x; } }
class Sub extends Point { #hidden = 1; get y() { return 2; } static s = 1; }
console.log(Point, Sub, class {});
console.log(new Point(1), new Sub(2));
console.log(Object.create(null), Object.create({ inherited: 1 }), Object.create(Point.prototype));
console.log(Object.assign(Object.create(null), { a: 1 }));

//# null prototype of a class
console.log(new (class extends null { constructor() { return Object.create(new.target.prototype); } })());

//# functions
console.log(function named() {}, () => {}, async () => {}, function* gen() {}, async function* ag() {});
console.log(Object.assign(function f() {}, { a: 1 }));
console.log({ method() {}, arrow: () => {}, get getter() { return 1; }, set setter(v) {}, get both() { return 1; }, set both(v) {} });

//# dates, expressions, symbols, boxes
console.log(new Date(0), new Date(NaN), /a.b/gi);
console.log([new Date(0), /x/], { d: new Date(86400000) });
console.log(Object(1), Object("text"), Object(true), Object(10n), Object(Symbol("s")));
console.log({ s: Symbol("in"), n: -0, b: 5n });

//# promises and proxies
console.log(Promise.resolve(1), new Promise(() => {}));
console.log(new Proxy({ a: 1 }, {}), new Proxy(function f() {}, {}));

//# bytes
console.log(new Uint8Array([1, 2, 3]), new Float64Array([1.5, -0]), new BigInt64Array([1n]));
console.log(new ArrayBuffer(4));
console.log(new DataView(new ArrayBuffer(2)));
console.log(new Uint8Array(200));

//# circular
const a = { name: "a" };
a.self = a;
a.list = [a, { a }];
console.log(a);
const b = { other: a };
console.log({ b, again: b });

//# errors
const error = new Error("failed");
error.stack = "Error: failed\n    at place (file.js:1:1)";
console.log(error);
console.log({ error });
console.log([error]);

//# errors with properties and causes
const cause = new TypeError("inner");
cause.stack = "TypeError: inner\n    at inner (file.js:2:2)";
const outer = new Error("outer", { cause });
outer.stack = "Error: outer\n    at outer (file.js:1:1)";
outer.code = "E_CODE";
console.log(outer);

//# errors without a stack
const bare = new RangeError("bare");
bare.stack = undefined;
console.log(bare);
const odd = new Error("odd");
odd.name = "Odd";
odd.stack = "Error: odd\n    at x (f.js:1:1)";
console.log(odd);
const none = new Error("");
none.stack = "Error\n    at x (f.js:1:1)";
console.log(none);

//# aggregate errors
const one = new Error("one");
one.stack = "Error: one\n    at one (f.js:1:1)";
const all = new AggregateError([one], "all");
all.stack = "AggregateError: all\n    at all (f.js:2:2)";
console.log(all);

//# getters and toStringTag
console.log({ get a() { throw new Error("no"); } });
console.log({ [Symbol.toStringTag]: "Tagged", a: 1 });
class T { get [Symbol.toStringTag]() { return "Other"; } }
console.log(new T());

//# custom inspection
console.log({ [Symbol.for("nodejs.util.inspect.custom")]() { return "custom!"; } });
console.log({ [Symbol.for("nodejs.util.inspect.custom")](depth, options) { return { depth, type: typeof options }; } });
console.log([{ [Symbol.for("nodejs.util.inspect.custom")]() { return "custom!"; } }]);

//# levels
console.info("info");
console.debug("debug");
console.warn("warn %s", "w");
console.error("error %d", 1);

//# table of objects
console.table([{ a: 1, b: "two" }, { a: 3, c: true }]);

//# table of arrays
console.table([[1, 2], [3, 4]]);

//# table with columns
console.table([{ a: 1, b: 2 }, { a: 3, b: 4 }], ["b"]);

//# table of primitives, objects, maps and sets
console.table([1, "two", null]);
console.table({ x: { a: 1 }, y: { a: 2 } });
console.table(new Map([["k", 1], ["l", { a: 2 }]]));
console.table(new Set([1, "x"]));
console.table("no table");
console.table(null);
console.table([]);
console.table([{ wide: "日本語" }, { wide: "é" }]);

//# count
console.count();
console.count();
console.count("label");
console.countReset();
console.count();
console.countReset("never");
console.count(undefined);
console.count("default");

//# group
console.group("outer");
console.log("inside");
console.group();
console.log("deeper\nsecond line");
console.log({ a: { b: { c: {} } }, d: "x".repeat(80) });
console.groupEnd();
console.warn("warned");
console.groupEnd();
console.groupEnd();
console.log("outside");
console.groupCollapsed("collapsed %s", "x");
console.log("in");
console.groupEnd();

//# assert
console.assert(true, "never");
console.assert(false);
console.assert(false, "message %s", "x");
console.assert(false, { a: 1 });
console.assert(0, "zero");

//# dir
console.dir({ a: { b: { c: { d: 1 } } } });
console.dir({ a: { b: { c: { d: 1 } } } }, { depth: 0 });
console.dir({ a: { b: { c: { d: 1 } } } }, { depth: null });
console.dir("text");
console.dirxml({ a: 1 }, [2]);

//# timers that are not there
console.timeEnd("none");
console.timeLog("none");

//# timers that are there twice
console.time("twice");
console.time("twice");

//# globals
console.log([globalThis === globalThis], typeof globalThis);
console.log(new URLSearchParams("a=1"));
console.log(Object.keys(console).includes("log"));
console.log(new (class Foo extends Map {})([["a", 1]]), new (class Bar extends Array {})(1, 2), new (class Baz extends Set {})([1]));
console.log((function () { return arguments; })(1, 2));
console.log(JSON, Math, Reflect);
console.log([undefined, null, [], {}]);
console.log({ a: [], b: {}, c: [{}], d: new Map(), e: function () {} });
console.log([1.0, 2.25, -3], ["a", "b"]);
console.log("%s", "a\0b");
console.log(new Array(3).fill({ x: 1 }));
console.log({ undefined: undefined, null: null });
console.log([["a", 1], ["b", 2]]);
console.log({ a: 1n, b: Symbol.for("x") });
