/// <reference path="./types/host.d.ts" />

// The host: trusted, and run by `stockade run main.ts`. It gives each plugin a text, in a container of the plugin's own.

const folder = new URL("./plugins/", import.meta.url).pathname;
const text = Deno.args[0] ?? "hello from the host";

const sandbox = new V8Sandbox({ isolation: "container", memoryLimitMb: 64, cpuLimitMs: 200 });

/** Runs one plugin, and ends it. */
async function run(name: string, source: string): Promise<string> {
  const plugin = await sandbox.createIsolate({ name, modules: { "main.ts": source }, console: "inherit" });
  try {
    // All that a plugin can do: this request, and what it is given.
    plugin.onRequest("greet", (who: string) => `hello, ${who}`);
    return String(await plugin.call("transform", text));
  } catch (error) {
    return `failed: ${error instanceof Error ? error.message : error}`;
  } finally {
    plugin.destroy();
  }
}

for (const entry of Deno.readDirSync(folder)) {
  if (!entry.isFile || !entry.name.endsWith(".ts")) continue;
  console.log(`${entry.name}: ${await run(entry.name, Deno.readTextFileSync(folder + entry.name))}`);
}
sandbox.shutdown();
