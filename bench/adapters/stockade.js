// Stockade: isolates of one V8Sandbox. `warm` isolates are kept ready; 0 measures cold creation. `level`
// has the options of their level of isolation.

import { guestSource } from "./guest.js";
import { run } from "./work.js";

const source = guestSource(`
const send = (message) => NETWORK.send("message", message);
const receive = (handler) => NETWORK.on("message", handler);
`);

const task = JSON.parse(Deno.args[0]);
const sandbox = new V8Sandbox({ warm: task.warm ?? 0, ...task.level });

async function create({ unlimited } = {}) {
  const isolate = await sandbox.createIsolate(unlimited ? { cpuLimitMs: 0 } : {});
  return new Promise((resolve, reject) => {
    let receive = () =>
      resolve({
        send: (message) => isolate.send("message", message),
        receive: (handler) => { receive = handler; },
        close: () => isolate.destroy(),
        ended: new Promise((resolve) => isolate.onSystem("destroyed", resolve)),
      });
    isolate.on("message", (message) => receive(message));
    isolate.onSystem("error", (error) => reject(new Error(error.message)));
    isolate.execute(source);
  });
}

/** The processes below a process (proc(5)). */
async function childrenOf(pid) {
  const found = [];
  for await (const { name } of Deno.readDir(`/proc/${pid}/task`)) {
    const children = await Deno.readTextFile(`/proc/${pid}/task/${name}/children`).catch(() => "");
    found.push(...children.split(" ").filter(Boolean).map(Number));
  }
  return found;
}

/** Whether workers are copied from this process. */
async function isTemplate(pid) {
  return (await Deno.readTextFile(`/proc/${pid}/cmdline`).catch(() => "")).startsWith("stockade-template");
}

/** Kills from outside, as anybody else on the machine could, every worker that lives. */
async function kill() {
  for (const launcher of await childrenOf(Deno.pid)) {
    for (const worker of await childrenOf(launcher)) {
      if (await isTemplate(worker)) continue;
      try {
        Deno.kill(worker, "SIGKILL");
      } catch (error) {
        if (!(error instanceof Deno.errors.NotFound)) throw error;
      }
    }
  }
}

const inWorkers = task.level && task.level.isolation !== "thread";
await run(task, { create, kill: inWorkers ? kill : undefined });
sandbox.shutdown();
Deno.exit(0);
