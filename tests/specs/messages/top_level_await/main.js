// A module may wait for its host at its top level: it is neither ended for that nor does it use time.
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
console.log(await worker.call("greet"));
await new Promise((resolve) => setTimeout(resolve, 200));
console.log("cpu is spared:", worker.stats().cpuMs < 50);
worker.send("go", "hello");
console.log(await went, await worker.call("greet"));

// The twin that waits for nothing: what it throws is heard once.
const thrown = { "main.js": "await null; throw new Error('Top-level await promise never resolved')" };
const twin = await new V8Sandbox().createIsolate({ modules: thrown });
await new Promise((resolve) => twin.onSystem("error", ({ message }) => resolve(console.log("error:", message))));
twin.destroy();
worker.destroy();
