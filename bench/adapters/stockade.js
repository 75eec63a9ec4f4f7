// Stockade: isolates of one V8Sandbox. `warm` isolates are kept ready; 0 measures cold creation.

import { guestSource } from "./guest.js";
import { run } from "./work.js";

const source = guestSource(`
const send = (message) => NETWORK.send("message", message);
const receive = (handler) => NETWORK.on("message", handler);
`);

const task = JSON.parse(Deno.args[0]);
const sandbox = new V8Sandbox({ warm: task.warm ?? 0 });

async function create({ unlimited } = {}) {
  const isolate = await sandbox.createIsolate(unlimited ? { cpuLimitMs: 0 } : {});
  return new Promise((resolve, reject) => {
    let receive = () =>
      resolve({
        send: (message) => isolate.send("message", message),
        receive: (handler) => { receive = handler; },
        close: () => isolate.destroy(),
      });
    isolate.on("message", (message) => receive(message));
    isolate.onSystem("error", (error) => reject(new Error(error.message)));
    isolate.execute(source);
  });
}

await run(task, { create });
sandbox.shutdown();
Deno.exit(0);
