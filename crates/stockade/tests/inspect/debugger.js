// Debugs the host whose debugger address is its argument, and prints what it sees.

const [base] = Deno.args;
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/** One target's session. */
class Session {
  #socket;
  #next = 1;
  #replies = new Map();
  #events = [];
  #waiting = [];

  static async open(url) {
    const session = new Session();
    const socket = session.#socket = new WebSocket(url);
    socket.onmessage = ({ data }) => session.#take(JSON.parse(data));
    session.closed = new Promise((done) => socket.onclose = ({ code }) => done(code));
    await new Promise((done, failed) => {
      socket.onopen = done;
      socket.onerror = () => failed(new Error(`cannot connect to ${url}`));
    });
    return session;
  }

  #take({ id, result, error, method, params }) {
    if (id !== undefined) {
      this.#replies.get(id)?.(error ?? result);
      return;
    }
    const index = this.#waiting.findIndex((waiting) => waiting.method === method);
    if (index < 0) this.#events.push({ method, params });
    else this.#waiting.splice(index, 1)[0].done(params);
  }

  send(method, params = {}) {
    const id = this.#next++;
    this.#socket.send(JSON.stringify({ id, method, params }));
    return new Promise((done) => this.#replies.set(id, done));
  }

  event(method) {
    const index = this.#events.findIndex((event) => event.method === method);
    if (index >= 0) return Promise.resolve(this.#events.splice(index, 1)[0].params);
    return new Promise((done) => this.#waiting.push({ method, done }));
  }

  async close() {
    this.#socket.close();
    await this.closed;
  }
}

const targets = await (await fetch(`${base}/json/list`)).json();
console.log(targets.map(({ title }) => title).join(", "));
const open = (title) =>
  Session.open(targets.find((target) => target.title.endsWith(title)).webSocketDebuggerUrl);

const host = await open("host");
const evaluate = async (expression) => (await host.send("Runtime.evaluate", { expression })).result;
console.log("host says", (await evaluate("typeof V8Sandbox + ' ' + 6 * 7")).value);

{
  const session = await open(" paused");
  await session.send("Debugger.enable");
  await evaluate("steps.pause()");
  const { callFrames } = await session.event("Debugger.paused");
  // Longer than both limits: that they wait meanwhile is what this is about.
  await sleep(1500);
  const { callFrameId } = callFrames[0];
  const { result } = await session.send("Debugger.evaluateOnCallFrame", {
    callFrameId,
    expression: "const end = Date.now() + 500; while (Date.now() < end); before",
  });
  console.log("before is", result.value);
  await session.send("Debugger.resume");
  await session.event("Debugger.resumed");
  await session.close();
}
{
  const session = await open(" second");
  await session.send("Debugger.enable");
  await session.send("Debugger.setBreakpointByUrl", { lineNumber: 1, urlRegex: "^evaluate#" });
  await evaluate("steps.walk()");
  const seen = [];
  for (const next of ["stepOver", "resume"]) {
    const { callFrames: [{ callFrameId, location }] } = await session.event("Debugger.paused");
    const { result } = await session.send("Debugger.evaluateOnCallFrame", { callFrameId, expression: "a" });
    seen.push(`a is ${result.value} in line ${location.lineNumber + 1}`);
    await session.send(`Debugger.${next}`);
  }
  console.log(seen.join(", "));
  // Without being enabled V8 refuses it, and a worker cannot have it.
  console.log("profiler:", typeof (await session.send("Profiler.start")).message);
  await session.close();
}
{
  const session = await open(" talks");
  await session.send("Runtime.enable");
  await evaluate("steps.talk()");
  const called = () => session.event("Runtime.consoleAPICalled");
  const shown = ({ value, description, preview }) =>
    preview?.properties.map(({ name, type }) => `${name} ${type}`) ?? description ?? value;
  const { type, args, stackTrace: { callFrames: [{ functionName, url, lineNumber }, above] } } = await called();
  console.log(type, args.map(shown).join(", "));
  console.log("at", functionName, "in line", lineNumber + 1, "of", url.split("#")[0], "called in line", above.lineNumber + 1);
  // Objects can be looked into.
  let { objectId } = args[1];
  for (const member of ["deep", "deeper", "1", "deepest"]) {
    const { result } = await session.send("Runtime.getProperties", { objectId, ownProperties: true });
    const { value } = result.find(({ name }) => name === member);
    if (value.objectId === undefined) console.log("looked into:", value.value);
    objectId = value.objectId;
  }
  const properties = () => session.send("Runtime.getProperties", { objectId: args[1].objectId });
  for (let at = 0; at < 5; at++) {
    const { type, args } = await called();
    const texts = args.map((one) => String(shown(one)));
    console.log(type, texts.map((text) => text.length > 100 ? text.length : text).join(" | "));
  }
  await evaluate("steps.flood()");
  let flood = 0;
  let last;
  while ((last = await called()).type === "log") flood++;
  console.log("flood of", flood, "then", last.type, "while objects of before are gone:", (await properties()).message);
  await session.close();
}
{
  const session = await open(" left");
  await session.send("Debugger.enable");
  await evaluate("steps.leave()");
  await session.event("Debugger.paused");
  await sleep(1200);
  await session.close();
}
{
  const session = await open(" destroyed");
  await session.send("Debugger.enable");
  await evaluate("steps.hold()");
  await session.event("Debugger.paused");
  await evaluate("steps.destroy()");
  console.log("socket closed with", await session.closed);
}
{
  const session = await open(" busy");
  await session.send("Debugger.enable");
  await evaluate("steps.loop()");
  console.log("socket closed with", await session.closed);
}
const rest = await (await fetch(`${base}/json/list`)).json();
console.log(rest.map(({ title }) => title).join(", "));
await evaluate("steps.end()");
await host.close();
