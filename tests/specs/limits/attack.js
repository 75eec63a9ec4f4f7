// One hostile program, its harmless control and a neighbour: what every case of this kind does.

export async function attack({ hostile, harmless, limits }) {
  const sandbox = new V8Sandbox({ cpuLimitMs: 300, wallLimitMs: 10_000, memoryLimitMb: 64, ...limits });
  const neighbour = await sandbox.createIsolate({ name: "neighbour", wallLimitMs: 0 });
  neighbour.execute(`NETWORK.on("ping", (n) => NETWORK.send("pong", n))`);
  const ping = (n) =>
    new Promise((resolve) => {
      neighbour.off("pong").on("pong", resolve);
      neighbour.send("ping", n);
    });

  const control = await run(sandbox, harmless);
  console.log("harmless:", await Promise.race([control.ended, control.isolate.evaluate(`"alive"`)]));
  control.isolate.destroy();

  const attacker = await run(sandbox, hostile);
  const pending = attacker.isolate.evaluate("1").catch((error) => error.message);
  let over = false;
  attacker.ended.then(() => over = true);
  let pongs = 0;
  while (!over) {
    await ping(pongs++);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  console.log("hostile:", await attacker.ended);
  console.log("neighbour during it:", pongs > 0);
  // The call got its answer before the attack, or rejects.
  const late = await pending;
  console.log("pending call settled:", late === 1 || /is destroyed|ended before it replied/.test(late) || late);
  console.log("neighbour afterwards:", await ping("still here"), await neighbour.evaluate("6 * 7"));
  sandbox.shutdown();
}

// Starts a program; `ended` resolves to the runtime's reason, if the reported usage is plausible.
async function run(sandbox, code) {
  const isolate = await sandbox.createIsolate();
  const ended = new Promise((resolve) =>
    isolate.onSystem("terminated", ({ reason, cpuMs, memoryMb }) => {
      const plausible = Number.isFinite(cpuMs) && cpuMs >= 0 && Number.isFinite(memoryMb) && memoryMb >= 0;
      resolve(plausible ? reason : `${reason} ${cpuMs} ms ${memoryMb} MB`);
    })
  );
  // A hostile program that the engine stops by itself goes on to something worse.
  isolate.onSystem("error", () => {});
  isolate.on("send me x", () => isolate.send("x"));
  isolate.onRequest("x", () => {});
  isolate.execute(code);
  return { isolate, ended };
}
