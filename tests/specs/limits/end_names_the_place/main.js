// The end of a guest that broke a limit says where in its code that was.
const limits = { cpuLimitMs: 100, wallLimitMs: 60_000, memoryLimitMb: 64 };
const source = `
  interface A { b: number }
  export function spin() {
    for (;;);
  }
  export const fill = (): A => { const all: unknown[] = []; for (;;) all.push(new Array(1e4).fill(1)); };
  export const made = () => new Function("for (;;);")();
  export const sorted = () => [3, 1, 2].sort(() => { for (;;); });
`;
const sandbox = new V8Sandbox(limits);
for (const name of ["spin", "fill", "made", "sorted"]) {
  // Filling the memory takes a slow machine more CPU time than the others have.
  const more = name === "fill" ? { cpuLimitMs: 30_000 } : {};
  const guest = await sandbox.createIsolate({ modules: { "main.ts": source }, ...more });
  const ended = new Promise((resolve) => guest.onSystem("terminated", resolve));
  guest.call(name).catch(() => {});
  const { reason, detail } = await ended;
  console.log(name, reason, "-", detail);
}
const guest = await sandbox.createIsolate();
const ended = new Promise((resolve) => guest.onSystem("terminated", resolve));
guest.execute(`\n  for (;;);`);
console.log((await ended).detail);
sandbox.shutdown();
