// A signer of Nostr events, at every level: what it signs, and what it does not.

const sandbox = new V8Sandbox();
for (const isolation of ["thread", "process", "container"]) {
  const isolate = await sandbox.createIsolate({
    isolation,
    grants: {
      ME: {
        nostr: {
          key: "67dea2ed018072d675f5415ecfaed7d2597555e202d85b3d65ea4e58d2d92ffa",
          permissions: ["sign_event:1", "nip44_encrypt"],
          relays: ["wss://relay.example"],
          events_per_minute: 1,
        },
      },
    },
  });
  const result = await isolate.evaluate(`(async () => {
    const { ME } = NETWORK.env;
    const failed = (promise) => promise.then(() => "done", (error) => error.name);
    const created_at = Math.floor(Date.now() / 1000);
    const note = (kind, at = created_at) => ({ kind, created_at: at, tags: [["t", "a"]], content: "hello" });
    const { pubkey, content, tags, sig } = await ME.signEvent(note(1));
    return {
      pubkey: pubkey === await ME.getPublicKey(),
      event: [content, tags, sig.length],
      relays: await ME.getRelays(),
      kind: await failed(ME.signEvent(note(3))),
      time: await failed(ME.signEvent(note(1, 1))),
      second: await failed(ME.signEvent(note(1))),
      encrypt: await failed(ME.nip44.encrypt(pubkey, "a")),
      decrypt: await failed(ME.nip44.decrypt(pubkey, "a")),
    };
  })()`);
  console.log(isolation, JSON.stringify(result));
  isolate.destroy();
}
