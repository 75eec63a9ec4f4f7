// A guest that sends the names of system events sends plain messages.
const sandbox = new V8Sandbox();
const guest = await sandbox.createIsolate();
const names = ["terminated", "destroyed", "error", "console", "__ws_event", "__proto__", "constructor", "toString", "hasOwnProperty"];
for (const name of ["terminated", "error", "console"]) guest.onSystem(name, (data) => console.log("FORGED", name, data));
const all = names.map((name) => new Promise((resolve) => guest.on(name, (data) => resolve(console.log("message", name, data)))));
guest.execute(`
  for (const name of ${JSON.stringify(names)}) NETWORK.send(name, { reason: "cpu_limit_exceeded" });
`);
await Promise.all(all);
// Requests by such names have no handler.
for (const name of ["__proto__", "constructor", "fetch", "terminated"]) {
  console.log(await guest.evaluate(`NETWORK.request("${name}").catch((error) => error.message)`));
}
// JSON's own trap: the key stays a key.
const proto = new Promise((resolve) => guest.on("proto", (data) => resolve(console.log(Object.keys(data), data.polluted, {}.polluted))));
guest.execute(`NETWORK.send("proto", JSON.parse('{"__proto__": {"polluted": 1}}'))`);
await proto;
console.log("alive:", !guest.destroyed);
// The harmless control: a real end is reported.
const ended = new Promise((resolve) => guest.onSystem("destroyed", resolve));
const waiting = setInterval(() => {}, 1000);
guest.destroy();
console.log("system", await ended);
clearInterval(waiting);
