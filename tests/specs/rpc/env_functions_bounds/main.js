// What cannot be handed over is said when the isolate is made.
const sandbox = new V8Sandbox();
const f = () => 1;
const complain = async (env) => {
  try {
    const worker = await sandbox.createIsolate({ env });
    console.log("made");
    worker.destroy();
  } catch (error) {
    console.log(`${error.name}: ${error.message}`);
  }
};
const deep = (levels) => levels === 0 ? { f } : { deep: deep(levels - 1) };
const circle = { f };
circle.circle = circle;
await complain(deep(30));
await complain(deep(40));
await complain(circle);
await complain(Object.fromEntries(Array.from({ length: 256 }, (_, i) => ["f" + i, f])));
await complain(Object.fromEntries(Array.from({ length: 257 }, (_, i) => ["f" + i, f])));
await complain({ ["x".repeat(256)]: f });
await complain({ ["x".repeat(257)]: f });
await complain({ "a.b": f, a: { b: f } });
await complain({ "a.b": f, a: { c: f } });
await complain({ "\0functions": [["x"]] });
await complain(JSON.parse('{"__proto__": {"a": 1}}'));
const own = JSON.parse('{"__proto__": {}}');
Object.getOwnPropertyDescriptor(own, "__proto__").value.f = f;
await complain(own);
await complain({ date: new Date(0), toJSON: f });
await complain([f]);
sandbox.shutdown();
