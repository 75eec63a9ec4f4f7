// Keys of the host's as CryptoKeys, at every level: what they sign the guest verifies with the public half.

const jwk = {
  kty: "EC",
  crv: "P-256",
  x: "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
  y: "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
  d: "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI",
};
const sandbox = new V8Sandbox();
for (const isolation of ["thread", "process", "container"]) {
  const isolate = await sandbox.createIsolate({
    isolation,
    grants: {
      EC: { key: { secret: JSON.stringify(jwk), algorithm: "ES256", usages: ["sign"] } },
      MAC: { key: { secret: "shared", encoding: "text", algorithm: "HS256", usages: ["sign", "verify"] } },
      BOX: {
        key: { secret: "00".repeat(16), encoding: "hex", algorithm: "A128GCM", usages: ["encrypt", "decrypt", "wrapKey", "unwrapKey"] },
      },
    },
  });
  const result = await isolate.evaluate(`(async () => {
    const { EC, MAC, BOX } = NETWORK.env;
    const { subtle } = crypto;
    const data = new TextEncoder().encode("data");
    const ecdsa = { name: "ECDSA", hash: "SHA-256" };
    const signature = await subtle.sign(ecdsa, EC, data);
    const half = await subtle.getPublicKey(EC, ["verify"]);
    const { d, x } = await subtle.exportKey("jwk", EC);
    const code = await subtle.sign("HMAC", MAC, data);
    const gcm = { name: "AES-GCM", iv: new Uint8Array(12), additionalData: data };
    const own = await subtle.generateKey({ name: "HMAC", hash: "SHA-256" }, true, ["sign"]);
    const wrapped = await subtle.wrapKey("jwk", own, BOX, gcm);
    const unwrapped = await subtle.unwrapKey("jwk", wrapped, BOX, gcm, { name: "HMAC", hash: "SHA-256" }, true, ["sign"]);
    const raw = async (key) => String(new Uint8Array(await subtle.exportKey("raw", key)));
    return {
      class: EC instanceof CryptoKey,
      shown: [EC.type, EC.extractable, EC.usages, EC.algorithm, MAC.algorithm, BOX.algorithm],
      verified: await subtle.verify(ecdsa, half, signature, data),
      forged: await subtle.verify(ecdsa, half, signature, new Uint8Array(1)),
      jwk: [d, x],
      mac: [await subtle.verify("HMAC", MAC, code, data), await subtle.verify("HMAC", MAC, code, new Uint8Array(4))],
      box: new TextDecoder().decode(await subtle.decrypt(gcm, BOX, await subtle.encrypt(gcm, BOX, data))),
      wrapped: await raw(own) === await raw(unwrapped),
      clone: (await subtle.sign("HMAC", structuredClone(MAC), data)).byteLength,
    };
  })()`);
  console.log(isolation, JSON.stringify(result));
  isolate.destroy();
}
