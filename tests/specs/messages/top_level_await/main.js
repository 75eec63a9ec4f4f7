// A module may wait for its host at its top level: it is neither ended for that nor does it use time. Calls wait
// until it has come to its end; scripts and events do not.
const modules = {
  "main.js": `
    export let greeting = "none yet";
    export const greet = () => greeting;
    greeting = await new Promise((resolve) => NETWORK.on("go", resolve));
    NETWORK.send("went", greeting);`,
};
const worker = await new V8Sandbox().createIsolate({ modules, cpuLimitMs: 50 });
worker.onSystem("error", ({ message }) => console.log("error:", message));
worker.onSystem("terminated", ({ reason }) => console.log("terminated:", reason));
const went = new Promise((resolve) => worker.on("went", resolve));
console.log(await worker.evaluate("'evaluated meanwhile'"));
const greetings = Promise.all([worker.call("greet"), worker.call("greet")]);
await new Promise((resolve) => setTimeout(resolve, 200));
console.log("cpu is spared:", worker.stats().cpuMs < 50);
worker.send("go", "hello");
console.log(await went, await greetings, await worker.call("greet"));

// One that never comes to its end: calls do not wait for ever.
const never = await new V8Sandbox().createIsolate({
  modules: { "main.js": "export const f = () => 1; await new Promise((resolve) => setTimeout(resolve, 1e9));" },
  requestTimeoutMs: 500,
});
const calls = Array.from({ length: 2000 }, () => never.call("f").catch((error) => error.message));
const outcomes = new Set(await Promise.all(calls));
for (const text of outcomes) console.log(text);
never.destroy();

// The control that waits for nothing: its exception is reported once.
const thrown = { "main.js": "await null; throw new Error('Top-level await promise never resolved')" };
const control = await new V8Sandbox().createIsolate({ modules: thrown });
await new Promise((resolve) => control.onSystem("error", ({ message }) => resolve(console.log("error:", message))));
control.destroy();
worker.destroy();
