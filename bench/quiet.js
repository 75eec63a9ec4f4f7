// Waiting until the machine has nothing else to do.

import { cpus } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";

const LOOK_MS = 400;
/** Processors busy by more than this share distort a measurement. */
const BUSY = 0.12;

function ticks() {
  const sum = { all: 0, idle: 0 };
  for (const { times } of cpus()) {
    sum.idle += times.idle;
    for (const spent of Object.values(times)) sum.all += spent;
  }
  return sum;
}

async function isQuiet() {
  const before = ticks();
  await sleep(LOOK_MS);
  const after = ticks();
  return 1 - (after.idle - before.idle) / (after.all - before.all) <= BUSY;
}

/** Waits while others keep the processors busy, until `deadline` (as `Date.now()`); true when quiet. */
export async function waitForQuiet(deadline) {
  while (Date.now() < deadline) {
    if (await isQuiet()) return true;
  }
  return false;
}
