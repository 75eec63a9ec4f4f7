// The least memory that an isolate can have is enough for loops that are compiled, and is a limit all the same.
const sandbox = new V8Sandbox({ memoryLimitMb: 8, cpuLimitMs: 30_000 });
const loops = {
  "at the top": `let sum = 0; for (let i = 0; i < 3e7; i++) sum += i; sum > 4e14`,
  "in a function": `(() => { let sum = 0; for (let i = 0; i < 3e7; i++) sum += i; return sum > 4e14; })()`,
  "with garbage": `const list = []; for (let i = 0; i < 1e6; i++) list[i % 100] = { i }; list.length`,
};
for (const [name, code] of Object.entries(loops)) {
  const guest = await sandbox.createIsolate();
  console.log(`${name}:`, await guest.evaluate(code).catch((error) => error.message));
  guest.destroy();
}
const hog = await sandbox.createIsolate();
const ended = new Promise((resolve) => hog.onSystem("terminated", resolve));
hog.execute(`const all = []; for (;;) all.push({ text: "x".repeat(10) + all.length })`);
const { reason, memoryMb } = await ended;
console.log("hog:", reason, memoryMb < 16 || memoryMb);
sandbox.shutdown();
