// The end of an isolate comes to those who await it, though nothing else is going on.
const sandbox = new V8Sandbox();
const ended = (isolate) => new Promise((resolve) => isolate.onSystem("destroyed", resolve));

const first = await sandbox.createIsolate();
const firstEnd = ended(first);
first.destroy();
console.log(await firstEnd);

const second = await sandbox.createIsolate();
second.destroy();
console.log(await ended(second));

// Nor does a guest that fills what is kept for handlers hide it.
const full = await sandbox.createIsolate();
await full.evaluate(`for (let i = 0; i < 100; i++) Promise.reject(new Error("x".repeat(60_000) + i)); 1`);
await full.evaluate("2");
full.destroy();
console.log(await ended(full));
const errors = [];
full.onSystem("error", ({ message }) => errors.push(message.length));
await null;
console.log(errors.length > 0, errors.length < 10);

const third = await sandbox.createIsolate();
const thirdEnd = ended(third);
sandbox.shutdown();
console.log(await thirdEnd, third.destroyed);
