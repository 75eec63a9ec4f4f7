// A guest that wants more of a key than it was granted, at every level. The control is the usage that it has.

const sandbox = new V8Sandbox();
for (const isolation of ["thread", "process", "container"]) {
  const isolate = await sandbox.createIsolate({
    isolation,
    grants: {
      MAC: {
        key: {
          secret: "planted-secret", encoding: "text", algorithm: "HS256", usages: ["sign"], domain: "order:",
          limits: { rate: 60, max_request: "4kb" },
        },
      },
    },
  });
  const result = await isolate.evaluate(`(async () => {
    const { MAC } = NETWORK.env;
    const { subtle } = crypto;
    const failed = (promise) => Promise.resolve(promise).then(() => "done", (error) => error.name);
    const order = new TextEncoder().encode("order:7");
    const tried = {
      control: await failed(subtle.sign("HMAC", MAC, order)),
      verify: await failed(subtle.verify("HMAC", MAC, new Uint8Array(32), order)),
      outside: await failed(subtle.sign("HMAC", MAC, new TextEncoder().encode("Order:7"))),
      raw: await failed(subtle.exportKey("raw", MAC)),
      jwk: await failed(subtle.exportKey("jwk", MAC)),
      half: await failed(subtle.getPublicKey(MAC, ["verify"])),
      derive: await failed(subtle.deriveBits("HKDF", MAC, 8)),
      wrapped: await failed(subtle.wrapKey("raw", MAC, MAC, "AES-GCM")),
      large: await failed(subtle.sign("HMAC", MAC, new Uint8Array(8192))),
    };
    // The engine's own key of the same name has no bytes in it that could be taken.
    const inside = CryptoKey.exportNodeMaterial?.(MAC);
    tried.inside = inside === undefined ? 0 : inside.data?.byteLength ?? 0;
    const forged = structuredClone({
      [Symbol.for("Deno.core.hostObject")]: () => ({ type: "stockade.key", binding: "MAC" }),
    });
    tried.forged = await failed(subtle.verify("HMAC", forged, new Uint8Array(32), order));
    const flood = await Promise.all(Array.from({ length: 300 }, () => failed(subtle.sign("HMAC", MAC, order))));
    tried.flood = flood.filter((name) => name === "BusyError").length > 200;
    return tried;
  })()`);
  console.log(isolation, JSON.stringify(result));
  isolate.destroy();
}
