// Lets a host that waits for a debugger go on, and says where it was.

const [base] = Deno.args;
const [target] = await (await fetch(`${base}/json/list`)).json();
const socket = new WebSocket(target.webSocketDebuggerUrl);
await new Promise((done) => socket.onopen = done);
const scripts = new Map();
let paused;
const stopped = new Promise((done) => paused = done);
socket.onmessage = ({ data }) => {
  const { method, params } = JSON.parse(data);
  if (method === "Debugger.scriptParsed") scripts.set(params.scriptId, params.url);
  if (method === "Debugger.paused") paused(params.callFrames[0].location);
};
let id = 0;
const send = (method) => socket.send(JSON.stringify({ id: ++id, method }));
send("Runtime.enable");
send("Debugger.enable");
send("Runtime.runIfWaitingForDebugger");
const { scriptId, lineNumber } = await stopped;
console.log("paused in", scripts.get(scriptId).split("/").at(-1), "line", lineNumber + 1);
send("Debugger.resume");
socket.close();
