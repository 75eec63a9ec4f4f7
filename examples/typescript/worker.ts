// The untrusted side of the TypeScript example. main.ts passes it to the isolate as a module.

/// <reference path="../../types/worker.d.ts" />

import { type Order, Problem, type Receipt } from "./orders.ts";

async function handle(order: Order): Promise<Receipt> {
  if (order.lines.length === 0) {
    throw new Error(Problem.Empty);
  }
  let total = 0;
  for (const { item, count } of order.lines) {
    total += count * (await NETWORK.request("price", item) as number);
  }
  return { customer: order.customer, total };
}

Object.assign(globalThis, { handle });
