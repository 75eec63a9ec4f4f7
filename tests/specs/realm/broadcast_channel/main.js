// A BroadcastChannel reaches its own isolate and no other.
const sandbox = new V8Sandbox();
const [a, b] = [await sandbox.createIsolate(), await sandbox.createIsolate()];
b.on("received", (data) => console.log("FORGED", data));
b.execute(`
  globalThis.received = [];
  new BroadcastChannel("news").onmessage = ({ data }) => received.push(data);
`);
await b.evaluate("1");
a.execute(`
  const listener = new BroadcastChannel("news");
  listener.onmessage = ({ data }) => { listener.close(); speaker.close(); NETWORK.send("received", data) };
  const speaker = new BroadcastChannel("news");
  speaker.postMessage({ news: 1 });
`);
await new Promise((resolve) => a.on("received", (data) => resolve(console.log("inside:", data))));
// Whatever could have come across has come: two more turns of the other isolate.
await b.evaluate("new Promise((resolve) => setTimeout(resolve, 1))");
console.log("outside:", await b.evaluate("received"));
console.log("own:", await b.evaluate(`new Promise((resolve) => {
  const one = new BroadcastChannel("mine"), two = new BroadcastChannel("mine");
  one.onmessage = ({ data }) => { one.close(); two.close(); resolve(data) };
  two.postMessage("control");
})`));
sandbox.shutdown();
