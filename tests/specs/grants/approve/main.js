// A function of the host approves each call; nothing but `true` does. What it is asked is what the guest does.

const sandbox = new V8Sandbox();
for (const isolation of ["thread", "process", "container"]) {
  const questions = [];
  const isolate = await sandbox.createIsolate({
    isolation,
    grants: {
      DOCS: {
        files: { path: "./data" },
        approve: async (asked) => {
          questions.push(asked);
          const [{ path }] = JSON.parse(asked.arguments);
          if (path === "throws") throw new Error("no");
          if (path === "truthy") return 1;
          return path === "a.txt";
        },
      },
    },
  });
  const result = await isolate.evaluate(`(async () => {
    const { DOCS } = NETWORK.env;
    const names = [];
    for (const path of ["a.txt", "b.txt", "throws", "truthy"]) {
      names.push(await DOCS.read(path, "text").catch((error) => error.name + ": " + error.message));
    }
    return names;
  })()`);
  console.log(isolation, result);
  const { binding, kind, method, arguments: args, more } = questions[0];
  console.log(questions.length, binding, kind, method, args, more);
  isolate.destroy();
}

// A call that waits for its approval ends with its isolate, and holds nothing up.
let asked;
const reached = new Promise((resolve) => asked = resolve);
const isolate = await sandbox.createIsolate({
  grants: { DOCS: { files: { path: "./data" }, approve: () => (asked(), new Promise(() => {})) } },
});
isolate.execute(`NETWORK.env.DOCS.read("a.txt")`);
await reached;
isolate.destroy();

try {
  await sandbox.createIsolate({ grants: { DOCS: { files: { path: "./data" }, approve: true } } });
} catch (error) {
  console.log(error.message);
}
