// What changes files in place and names in a granted folder, and what reports changes, at every level.

const sandbox = new V8Sandbox();

for (const isolation of ["thread", "process", "container"]) {
  const folder = await Deno.makeTempDir();
  const isolate = await sandbox.createIsolate({
    isolation,
    grants: {
      OUT: { files: { path: folder, mode: "write", storage: "1mb", max_file: "100kb", limits: { handles: 3 } } },
      OTHER: { files: { path: "./data" } },
    },
  });
  const result = await isolate.evaluate(`(async () => {
    const { OUT, OTHER } = NETWORK.env;
    const failed = (promise) => promise.then(() => "done", (error) => error.name + " " + error.code);
    await OUT.append("log", "one\\n");
    const appended = await OUT.append("log", new ReadableStream({
      start(controller) {
        controller.enqueue(new TextEncoder().encode("two\\n"));
        controller.close();
      },
    }));
    await OUT.write("log", "ONE", { offset: 0 });
    await OUT.copy("log", "a/copy");
    await OUT.rename("a", "b");
    await OUT.truncate("b/copy", 3);
    const changes = (await OUT.watch("", { recursive: true })).getReader();
    await OUT.append("b/copy", "!");
    const first = await changes.read();
    await changes.cancel();
    // Bounded by the grant, and ended by the guest.
    const open = [];
    for (let i = 0; i < 3; i++) open.push(await OUT.watch());
    const tooMany = await failed(OUT.watch());
    await open[0].cancel();
    let again;
    do again = await failed(OUT.watch()); while (again !== "done");
    return {
      size: appended.size,
      log: await OUT.read("log", "text"),
      part: await OUT.read("log", { offset: 1, length: 2, type: "text" }),
      copy: await OUT.read("b/copy", "text"),
      old: await OUT.stat("a/copy"),
      change: first.value,
      tooMany,
      far: await failed(OUT.write("log", "x", { offset: 2 ** 53 })),
      fraction: await failed(OUT.write("log", "x", { offset: 1.5 })),
      large: await failed(OUT.append("log", new Uint8Array(200_000))),
      taken: await failed(OUT.rename("log", "b/copy", { createNew: true })),
      out: await failed(OUT.rename("log", "../log")),
      other: await failed(OUT.copy("log", "../OTHER/log")),
      nul: await failed(OUT.append("a\\0b", "x")),
      name: await failed(OUT.append("n".repeat(300), "x")),
      readOnly: await failed(OTHER.append("hello.txt", "x")),
      watched: typeof (await OTHER.watch("hello.txt")).cancel,
    };
  })()`);
  console.log(isolation, JSON.stringify(result));
  isolate.destroy();
  await Deno.remove(folder, { recursive: true });
}
sandbox.shutdown();
