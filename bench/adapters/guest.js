// The program that every measured isolate runs, as text around each runtime's own way to send a
// message (`send`) and to receive one (`receive(handler)`).

const program = `
function handle(message) {
  switch (message.kind) {
    case "echo":
      send(message);
      break;
    case "flood":
      for (let i = 0; i < message.count; i++) send(i);
      break;
    case "spin": {
      const end = Date.now() + message.ms;
      while (Date.now() < end);
      send(message);
      break;
    }
  }
}
receive(handle);
send("ready");
`;

/** The source of a guest whose runtime offers messages as `prelude` defines them. */
export function guestSource(prelude) {
  return `${prelude}\n${program}`;
}

/** `send` and `receive` as Web Workers have them. */
export const webWorkerPrelude = `
const send = (message) => self.postMessage(message);
const receive = (handler) => { self.onmessage = (event) => handler(event.data); };
`;

/** A guest over an object with the interface of a Web Worker; resolves with its first message. */
export function webWorkerGuest(worker) {
  return new Promise((resolve, reject) => {
    let receive = () =>
      resolve({
        send: (message) => worker.postMessage(message),
        receive: (handler) => { receive = handler; },
        close: () => worker.terminate(),
      });
    worker.onmessage = (event) => receive(event.data);
    worker.onerror = (event) => reject(new Error(event.message));
  });
}
