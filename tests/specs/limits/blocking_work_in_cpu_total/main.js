// Work that blocks a helper thread, such as deriving bits from a password, is in the CPU time that an end reports, at every level.
for (const isolation of ["thread", "process"]) {
  const sandbox = new V8Sandbox({ isolation, cpuTotalMs: 200 });
  const guest = await sandbox.createIsolate();
  const ended = new Promise((resolve) => guest.onSystem("terminated", resolve));
  guest.execute(`(async () => {
    const key = await crypto.subtle.importKey("raw", new Uint8Array(16), "PBKDF2", false, ["deriveBits"]);
    for (;;) await crypto.subtle.deriveBits({ name: "PBKDF2", hash: "SHA-512", salt: new Uint8Array(16), iterations: 20_000 }, key, 512);
  })()`);
  const { reason, cpuTotalMs } = await ended;
  console.log(isolation, reason, cpuTotalMs >= 199 ? "all of it" : cpuTotalMs);
  await sandbox.shutdown();
}
