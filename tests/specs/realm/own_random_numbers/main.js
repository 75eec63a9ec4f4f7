// Isolates that start from the same prepared engine share no random number, key or clock.
const sandbox = new V8Sandbox({ warm: 0 });
const started = Date.now();
const values = [];
let origins = true;
for (let round = 0; round < 40; round++) {
  const isolate = await sandbox.createIsolate();
  const [drawn, origin] = await isolate.evaluate(`(async () => {
    const hex = (bytes) => [...new Uint8Array(bytes)].join(".");
    const key = await crypto.subtle.generateKey({ name: "AES-GCM", length: 256 }, true, ["encrypt"]);
    const pair = await crypto.subtle.generateKey({ name: "Ed25519" }, true, ["sign", "verify"]);
    const boundary = await new Response(new FormData()).text();
    return [[
      Math.random(), Math.random(), Math.random(),
      hex(crypto.getRandomValues(new Uint8Array(16))), crypto.randomUUID(),
      hex(await crypto.subtle.exportKey("raw", key)), hex(await crypto.subtle.exportKey("raw", pair.publicKey)),
      URL.createObjectURL(new Blob(["a"])), boundary,
    ], performance.timeOrigin];
  })()`);
  values.push(...drawn);
  // A guest's clock begins with the guest: not with the engine, which was ready before.
  if (round > 4) origins &&= origin > started + 2;
  isolate.destroy();
}
console.log(values.length, "values, all different:", new Set(values).size === values.length);
console.log("clocks begin with their guests:", origins);
sandbox.shutdown();
