// A guest's console: silent, as events, or printed with its isolate's name.
const sandbox = new V8Sandbox();
const code = "console.log('hello', { a: 1 }); console.error('two\\nlines \\u001b[31m')";
const silent = await sandbox.createIsolate();
silent.onSystem("console", () => console.log("never"));
await silent.evaluate(code);
const events = await sandbox.createIsolate({ console: "event" });
const both = Promise.withResolvers();
let lines = 0;
events.onSystem("console", ({ level, text }) => {
  console.log(level, JSON.stringify(text));
  if (++lines === 2) both.resolve();
});
await events.evaluate(code);
await both.promise;
const named = await sandbox.createIsolate({ console: "inherit", name: "guest" });
await named.evaluate(code);
const unnamed = await sandbox.createIsolate({ console: "inherit" });
await unnamed.evaluate("console.info('info')");
await new Promise((resolve) => setTimeout(resolve, 10));
sandbox.shutdown();
