// TypeScript on both sides: the host script, the guest's script and its modules, types included.
//
//   stockade run examples/typescript/main.ts
//
// Stack traces name the lines of the original sources.

/// <reference path="../../types/host.d.ts" />

import type { Order, Receipt } from "./orders.ts";

const folder = new URL(".", import.meta.url).pathname;
const read = (name: string): string => Deno.readTextFileSync(folder + name);

const sandbox = new V8Sandbox();
const worker = await sandbox.createIsolate({
  modules: { "./worker.ts": read("worker.ts"), "./orders.ts": read("orders.ts") },
});

worker.onRequest("price", (item: string): number => ({ tea: 3.5, milk: 1.25 })[item] ?? 0);
worker.execute(`import("./worker.ts").then(() => NETWORK.send("ready"))`);
await new Promise<void>((resolve) => worker.on("ready", () => resolve()));

const order: Order = { customer: "Ada", lines: [{ item: "tea", count: 2 }, { item: "milk", count: 4 }] };
const receipt = await worker.call("handle", order) as Receipt;
console.log(`${receipt.customer} pays ${receipt.total}`);

try {
  await worker.call("handle", { customer: "Bob", lines: [] } satisfies Order);
} catch (error) {
  const [message, place] = (error as Error).stack!.split("\n");
  console.log(message, place.trim());
}

sandbox.shutdown();
