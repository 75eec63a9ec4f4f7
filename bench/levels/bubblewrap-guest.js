// What node and deno run in bwrap: one line when it runs, and afterwards whatever comes in goes out.

if (globalThis.Deno) {
  Deno.stdout.writeSync(new TextEncoder().encode("ready\n"));
  const buffer = new Uint8Array(4096);
  for (let n; (n = await Deno.stdin.read(buffer)) !== null;) Deno.stdout.writeSync(buffer.subarray(0, n));
} else {
  process.stdout.write("ready\n");
  process.stdin.on("data", (bytes) => process.stdout.write(bytes));
}
