// A granted folder at every level: text, bytes and streams both ways, and what is not granted.

const sandbox = new V8Sandbox();
const folder = await Deno.makeTempDir();

for (const isolation of ["thread", "process", "container"]) {
  const isolate = await sandbox.createIsolate({
    isolation,
    env: { NAME: isolation },
    grants: {
      DOCS: { files: { path: "./data" } },
      OUT: { files: { path: folder, mode: "write", max_file: "1mb", limits: { max_result: "900kb" } } },
    },
  });
  const result = await isolate.evaluate(`(async () => {
    const { DOCS, OUT, NAME } = NETWORK.env;
    const failed = (promise) => promise.then(() => "done", (error) => error.name);
    const bytes = new Uint8Array(300_000).map((_, i) => i);
    const parts = [bytes.slice(0, 100_000), bytes.slice(100_000)];
    const stream = new ReadableStream({
      pull(controller) {
        const part = parts.shift();
        part === undefined ? controller.close() : controller.enqueue(part);
      },
    });
    const written = await OUT.write(NAME, stream);
    let read = 0;
    let same = true;
    for await (const chunk of await OUT.readStream(NAME)) {
      for (const byte of chunk) same &&= byte === bytes[read++];
    }
    await OUT.write("big", new Uint8Array(1_000_000));
    return {
      frozen: Object.isFrozen(NETWORK.env),
      text: await DOCS.read("hello.txt", "text"),
      names: (await DOCS.list()).entries.map((entry) => entry.name),
      size: written.size,
      read,
      same,
      missing: await DOCS.read("none"),
      outside: await failed(DOCS.read("../main.js")),
      readOnly: await failed(DOCS.write("x", "y")),
      tooLarge: await failed(OUT.read("big")),
      other: await failed(NETWORK.request("binding.call", { binding: "ELSE", method: "read", args: [] })),
      unknown: await failed(NETWORK.request("binding.call", { binding: "DOCS", method: "erase", args: [{}] })),
      garbage: await failed(NETWORK.request("binding.call", { binding: "DOCS" })),
    };
  })()`);
  console.log(isolation, JSON.stringify(result));
  isolate.destroy();
}

// An isolate without grants has nothing to call.
const plain = await sandbox.createIsolate();
const refused = await plain.evaluate(
  `NETWORK.request("binding.call", { binding: "DOCS", method: "list", args: [{ path: "" }] }).catch((error) => error.message)`,
);
console.log(refused);
await Deno.remove(folder, { recursive: true });
