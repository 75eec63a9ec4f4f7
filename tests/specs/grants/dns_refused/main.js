// A grant of names, at every level: what is not listed is refused before any server is asked, and floods end there.

const sandbox = new V8Sandbox();
for (const isolation of ["thread", "process", "container"]) {
  const isolate = await sandbox.createIsolate({
    isolation,
    grants: {
      NAMES: {
        // Nothing listens there.
        dns: { names: ["*.example.com"], servers: ["127.0.0.1:9"], limits: { rate: 20, timeout: "500ms" } },
      },
    },
  });
  const result = await isolate.evaluate(`(async () => {
    const { NAMES } = NETWORK.env;
    const failed = (promise) => promise.then(() => "done", (error) => error.name);
    const flood = await Promise.all(Array.from({ length: 100 }, () => failed(NAMES.resolve("evil.example"))));
    const count = (name) => flood.filter((other) => other === name).length;
    return {
      class: Object.prototype.toString.call(NAMES),
      refused: count("TypeError") >= 20,
      busy: count("BusyError") >= 60,
      all: count("TypeError") + count("BusyError"),
    };
  })()`);
  console.log(isolation, JSON.stringify(result));
  const listed = await isolate.evaluate(`(async () => {
    const failed = (promise) => promise.then(() => "done", (error) => error.name);
    for (;;) {
      const name = await failed(NETWORK.env.NAMES.resolve("a.example.com"));
      // Which one it is depends on how the machine refuses.
      if (name !== "BusyError") return name === "TimeoutError" || name === "OperationError";
    }
  })()`);
  console.log(listed);
  isolate.destroy();
}
