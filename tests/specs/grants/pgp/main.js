// OpenPGP at every level: signatures of each form, encryption, streams, errors, and what the guest cannot see of the key.

const sandbox = new V8Sandbox();
const secret = await Deno.readTextFile("../../../../examples/grants/pgp/key.asc");

for (const isolation of ["thread", "process", "container"]) {
  const isolate = await sandbox.createIsolate({
    isolation,
    grants: {
      PGP: {
        pgp: {
          secret,
          usages: ["sign", "decrypt", "encrypt", "verify"],
          isolation: isolation === "process" ? "process" : "container",
          limits: { max_request: "100kb", max_result: "100kb" },
        },
      },
      READER: { pgp: { usages: ["verify"], guest_keys: false } },
    },
  });
  const result = await isolate.evaluate(`(async () => {
    const { PGP, READER } = NETWORK.env;
    const failed = (promise) => promise.then(() => "done", (error) => [error.name, error.message]);
    const text = "h\\u00e9 \\0b0\\n";
    const key = await PGP.publicKey();
    const stream = () => new Blob([text]).stream();
    const inline = await PGP.sign(stream());
    const bytes = await PGP.sign(new TextEncoder().encode(text), { armor: false });
    const detached = await PGP.sign(text, { detached: true });
    const clear = await PGP.sign("- one", { cleartext: true });
    const message = await PGP.encrypt(stream(), { recipients: [key], sign: true });
    const decrypted = await PGP.decrypt(message, "text");
    const unsigned = await PGP.decrypt(await PGP.encrypt(text, { recipients: key, armor: false }), { type: "text" });
    const verified = await PGP.verify(inline);
    const ofBytes = await PGP.verify(bytes, "text");
    const alone = await PGP.verify(text, { signature: detached });
    const other = await PGP.verify("other", { signature: detached });
    return {
      class: Object.prototype.toString.call(PGP),
      members: Object.getOwnPropertyNames(PGP),
      armor: [key, inline, detached, clear, message].map((armor) => armor.split("\\n")[0]),
      bytes: bytes instanceof Uint8Array,
      decrypted: [decrypted.data === text, decrypted.valid, decrypted.signatures.length],
      unsigned: [unsigned.data === text, unsigned.valid, unsigned.signatures.length],
      verified: [verified.data instanceof Uint8Array, verified.valid],
      fingerprint: verified.signatures[0].fingerprint,
      created: verified.signatures[0].created instanceof Date,
      ofBytes: [ofBytes.data === text, ofBytes.valid],
      alone: [alone.data, alone.valid],
      other: [other.valid, other.signatures[0].fingerprint],
      clear: (await PGP.verify(clear, "text")).data,
      errors: [
        await failed(PGP.decrypt("garbage")),
        await failed(PGP.decrypt(inline)),
        await failed(PGP.verify("garbage")),
        await failed(PGP.encrypt(text)),
        await failed(PGP.sign(42)),
        await failed(PGP.sign("\\ud800")),
        await failed(PGP.sign("x".repeat(200_000))),
        await failed(PGP.sign(text, { detached: true, cleartext: true })),
        await failed(READER.sign(text)),
        await failed(READER.publicKey()),
        await failed(READER.verify(inline, { keys: key })),
        await failed((async () => new PGP.constructor())()),
      ],
    };
  })()`).catch((error) => error.stack);
  console.log(isolation, JSON.stringify(result, null, 1));
}
