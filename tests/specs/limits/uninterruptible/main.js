// A built-in function that the engine cannot interrupt: the isolate is reported as ended at its
// deadline, nobody waits for it, and the process ends though its thread still runs.
const sandbox = new V8Sandbox({ cpuLimitMs: 200, wallLimitMs: 400, memoryLimitMb: 0 });
const neighbour = await sandbox.createIsolate({ wallLimitMs: 0 });
for (
  const code of [
    `const a = 1n << (1n << 29n); (a * 3n / 7n).toString().length`,
    `"a".repeat(2 ** 28).lastIndexOf("a".repeat(2 ** 27) + "b")`,
  ]
) {
  const guest = await sandbox.createIsolate();
  const ended = new Promise((resolve) => guest.onSystem("terminated", resolve));
  guest.execute(code);
  const { reason } = await ended;
  console.log(/^(cpu|wall)_limit_exceeded$/.test(reason), guest.destroyed);
  console.log(await neighbour.evaluate(`"neighbour"`));
}
// Harmless controls.
console.log(await neighbour.evaluate(`[(1n << 100n).toString(), "aab".lastIndexOf("ab")]`));
sandbox.shutdown();
