// isolated-vm in Node: a bare V8 isolate with one context, no web platform in it.

import ivm from "isolated-vm";

import { guestSource } from "./guest.js";
import { run } from "./work.js";

const source = guestSource(`
const send = (message) => $send.applyIgnored(undefined, [message], { arguments: { copy: true } });
const receive = (handler) => { globalThis.$receive = handler; };
`);

async function create() {
  const isolate = new ivm.Isolate({ memoryLimit: 128 });
  const context = await isolate.createContext();
  let receive;
  const first = new Promise((resolve) => { receive = resolve; });
  await context.global.set("$send", new ivm.Reference((message) => receive(message)));
  await context.eval(source);
  await first;
  const handle = await context.global.get("$receive", { reference: true });
  return {
    send: (message) => handle.applyIgnored(undefined, [message], { arguments: { copy: true } }),
    receive: (handler) => { receive = handler; },
    close: () => isolate.dispose(),
  };
}

await run(JSON.parse(process.argv[2]), { create });
process.exit(0);
