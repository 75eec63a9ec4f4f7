import { missing } from "internal:errors";

export const isMainThread = true;
export const parentPort = null;
export const threadId = 0;
export const workerData = null;
export const Worker = missing("Worker", "a guest has one thread");
export const { BroadcastChannel, MessageChannel, MessagePort } = globalThis;
export default {
  BroadcastChannel,
  isMainThread,
  MessageChannel,
  MessagePort,
  parentPort,
  threadId,
  Worker,
  workerData,
};
