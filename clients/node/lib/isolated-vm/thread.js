// The thread of bridge.js: performs its requests with sessions of Stockade.

import { workerData } from "node:worker_threads";
import { Session } from "../sandbox.js";

const { port, sent } = workerData;
const sessions = new Map();
const calls = new Map();
let next = 1;

function post(message) {
  port.postMessage(message);
  Atomics.add(sent, 0, 1);
  Atomics.notify(sent, 0);
}

const does = {
  open({ session, options }) {
    const call = (params) =>
      new Promise((resolve, reject) => {
        calls.set(next, { resolve, reject });
        post({ call: next++, session, params });
      });
    sessions.set(session, new Session({ ...options, tools: { call } }));
  },
  async run({ session, code, options }) {
    const { error, ...outcome } = await sessions.get(session).run(code, options);
    return { ...outcome, error: error && { name: error.name, kind: error.kind, message: error.message, stack: error.stack } };
  },
  async close({ session }) {
    await sessions.get(session)?.close();
    sessions.delete(session);
  },
};

port.on("message", async ({ id, call, ...message }) => {
  if (call !== undefined) {
    const { resolve, reject } = calls.get(call);
    calls.delete(call);
    if (message.error) reject(Object.assign(new Error(message.error.message), { name: message.error.name }));
    else resolve(message.value);
    return;
  }
  try {
    post({ id, value: await does[message.does](message) });
  } catch (error) {
    post({ id, error: { name: error.name, message: error.message } });
  }
});
