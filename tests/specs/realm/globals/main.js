// Everything a guest finds on its global object, by name. A new name here is a decision.
const sandbox = new V8Sandbox();
const guest = await sandbox.createIsolate();
const own = (expression) =>
  guest.evaluate(`Reflect.ownKeys(${expression}).map(String).sort()`);
console.log((await own("globalThis")).join("\n"));
console.log("NETWORK:", (await own("NETWORK")).join(" "));
console.log("Atomics:", (await guest.evaluate("typeof Atomics")));
console.log("console:", (await own("console")).join(" "));
const shared = await sandbox.createIsolate({ sharedArrayBuffer: true });
console.log("with sharedArrayBuffer:", await shared.evaluate("typeof SharedArrayBuffer"));
sandbox.shutdown();
