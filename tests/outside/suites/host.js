// Runs bundles of tests, each in an isolate of its own, and prints each result as a line of JSON.
//
//     stockade run host.js -- plan.json
//
// A plan has `tasks`, each `{ file, bundle }`, or `{ file, scripts }` for tests that are classic scripts, and `peer`:
// whose server answers the guests' requests (peers.js); there is no network.

import { peers } from "./peers.js";

const { tasks, peer: named, root } = JSON.parse(await Deno.readTextFile(Deno.args[0]));
const sandbox = new V8Sandbox({ threads: 2 });
const attempts = 25;

const say = (line) => console.log(JSON.stringify(line));

async function attempt(task, skip) {
  const main = task.bundle ? await Deno.readTextFile(task.bundle) : "";
  const worker = await sandbox.createIsolate({
    modules: main ? { "main.js": main } : {},
    cpuLimitMs: 60_000,
    wallLimitMs: 600_000,
    memoryLimitMb: 1024,
    sharedArrayBuffer: true,
  });
  let running = null;
  let missing = null;
  let ended = null;
  let first = null;
  worker.onSystem("error", ({ name, message, source, line }) => {
    first ??= `${name}: ${message} (${source}:${line})`;
  });
  worker.onSystem("terminated", ({ reason, detail }) => {
    ended = `${reason}: ${detail}`;
  });
  peers[named](worker, root, (what) => {
    missing = what;
  }, task.file);
  let over;
  const done = new Promise((resolve) => {
    over = resolve;
  });
  worker.on("result", (result) => {
    if (result.begin !== undefined) {
      running = result.begin;
      missing = null;
      return;
    }
    if (result.end !== undefined) {
      over(null);
      return;
    }
    running = null;
    skip.push(result.name);
    say({ file: task.file, ...result, ...(missing && !result.ok ? { missing } : {}) });
  });
  let problem = null;
  try {
    if (main) {
      await worker.call("run", skip);
    } else {
      for (const script of task.scripts) {
        await worker.evaluate(`${await Deno.readTextFile(script)}\n;undefined`);
      }
      const late = setTimeout(() => over("no end within 600 s"), 600_000);
      worker.onSystem("destroyed", () => over(null));
      problem = await done;
      clearTimeout(late);
    }
  } catch (error) {
    problem = `${error.name}: ${error.message}${first ? `; before that ${first}` : ""}`;
  }
  const dead = worker.destroyed;
  worker.destroy();
  if (!dead) return problem && { broken: problem };
  if (running === null) return { broken: `the isolate ended: ${ended ?? problem}` };
  skip.push(running);
  say({ file: task.file, name: running, ok: false, error: `the isolate ended: ${ended ?? problem}` });
  return { again: true };
}

async function work() {
  for (let task = tasks.shift(); task; task = tasks.shift()) {
    const skip = [];
    let left = attempts;
    let outcome = { again: true };
    while (outcome?.again && left-- > 0) outcome = await attempt(task, skip);
    if (outcome?.broken) say({ file: task.file, name: "(loads)", ok: false, error: outcome.broken });
    else say({ file: task.file, name: "(loads)", ok: true });
  }
}

await Promise.all([work(), work()]);
sandbox.shutdown();
