// CPU time over an isolate's life: many short activations add up.
const sandbox = new V8Sandbox({ cpuLimitMs: 1000 });
const spin = `NETWORK.on("spin", (ms) => { const until = performance.now() + ms; while (performance.now() < until); NETWORK.send("spun") })`;
async function spinUntilEnd(limits, most) {
  const guest = await sandbox.createIsolate(limits);
  let end;
  const ended = new Promise((resolve) => guest.onSystem("terminated", (data) => resolve(end = data)));
  guest.execute(spin);
  for (let i = 0; i < most && !end; i++) {
    const spun = new Promise((resolve) => guest.off("spun").on("spun", resolve));
    try {
      guest.send("spin", 20);
    } catch {
      // It has just ended.
    }
    await Promise.race([spun, ended]);
  }
  if (!end) guest.destroy();
  return end;
}
const { reason, cpuTotalMs } = await spinUntilEnd({ cpuTotalMs: 200 }, 1000);
console.log(reason, cpuTotalMs === undefined || cpuTotalMs >= 199);
console.log("without the limit:", await spinUntilEnd({}, 20));
sandbox.shutdown();
