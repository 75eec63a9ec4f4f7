// The console's formatting.
console.log("%s is %d years and %o", "Ada", 36.5, { a: 1 });
console.log([1, , 3], new Set(["a"]), new Map([["k", 1]]), Symbol("s"), 10n, -0, undefined, null);
console.log({ nested: { deep: { deeper: { deepest: 1 } } } });
console.table([{ a: 1, b: 2 }, { a: 3, b: 4 }]);
console.group("group");
console.info("inside");
console.groupEnd();
console.count();
console.count();
console.log(class A {}, function f() {}, async () => {}, new (class B { x = 1; })());
console.assert(true, "not shown");
console.dir({ a: 1 });
console.log(new Error("message").message, [new Date(0)], /re/g, new Uint8Array(2), Promise.resolve(1));
