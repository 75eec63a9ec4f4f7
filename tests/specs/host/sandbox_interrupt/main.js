// Ctrl-C while isolates compute ends everything.
const sandbox = new V8Sandbox({ cpuLimitMs: 0 });
for (let i = 0; i < 3; i++) {
  const worker = await sandbox.createIsolate();
  worker.execute("for (;;);");
}
console.log("busy");
setTimeout(() => Deno.kill(Deno.pid, "SIGINT"), 10);
