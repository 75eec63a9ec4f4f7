// Node: worker_threads from source text.

import { Worker } from "node:worker_threads";

import { guestSource } from "./guest.js";
import { run } from "./work.js";

const source = guestSource(`
const { parentPort } = require("node:worker_threads");
const send = (message) => parentPort.postMessage(message);
const receive = (handler) => parentPort.on("message", handler);
`);

function create() {
  const worker = new Worker(source, { eval: true });
  return new Promise((resolve, reject) => {
    let receive = () =>
      resolve({
        send: (message) => worker.postMessage(message),
        receive: (handler) => { receive = handler; },
        close: () => worker.terminate(),
      });
    worker.on("message", (message) => receive(message));
    worker.on("error", reject);
  });
}

await run(JSON.parse(process.argv[2]), { create });
process.exit(0);
