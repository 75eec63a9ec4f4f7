// `node:fs` and `node:fs/promises` over granted folders, at every level; and without a grant.

const sandbox = new V8Sandbox();
const code = await Deno.readTextFile(new URL("guest.js", import.meta.url));
let expected;

for (const isolation of ["thread", "process", "container"]) {
  const folder = await Deno.makeTempDir();
  const second = await Deno.makeTempDir();
  const isolate = await sandbox.createIsolate({
    isolation,
    cpuLimitMs: 5000,
    modules: { "main.js": code },
    grants: {
      DOCS: { files: { path: "./data" } },
      OUT: { files: { path: folder, mode: "write" } },
      SECOND: { files: { path: second, mode: "write" } },
    },
  });
  const lines = await isolate.call("run");
  isolate.destroy();
  if (expected === undefined) console.log(lines.join("\n"));
  else console.log(`${isolation}: the same`, JSON.stringify(lines) === JSON.stringify(expected));
  expected ??= lines;
  await Deno.remove(folder, { recursive: true });
  await Deno.remove(second, { recursive: true });
}

const plain = await sandbox.createIsolate({ modules: { "main.js": "export * from 'node:fs';" } });
console.log(await plain.call("existsSync", "/").catch((error) => error.message.split("\n")[0]));
sandbox.shutdown();
