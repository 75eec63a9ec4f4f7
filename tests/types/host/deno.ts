// The Deno namespace, as far as the runtime has it.

const text: string = await Deno.readTextFile("a");
await Deno.writeTextFile("b", text.toUpperCase());
Deno.writeFileSync("c", await Deno.readFile("a"));
using file = await Deno.open("a", { read: true });
const info: Deno.FileInfo = await file.stat();
for await (const entry of Deno.readDir(Deno.cwd())) console.log(entry.name, info.size);
await Deno.mkdir("d", { recursive: true });
const folder: string = await Deno.makeTempDir();
await Deno.remove(folder, { recursive: true });
const home: string | undefined = Deno.env.get("HOME");
console.log(home, Deno.args, Deno.pid, Deno.hostname(), Deno.memoryUsage().rss, Deno.version.v8);
Deno.addSignalListener("SIGINT", () => Deno.exit(0));
const listener = Deno.listen({ port: 0 });
const connection = await Deno.connect({ hostname: "localhost", port: 1 });
await Deno.connectTls({ hostname: "example.com", port: 443 });
const addresses: string[] = await Deno.resolveDns("example.com", "A");
const server = Deno.serve({ port: 0 }, (request) => new Response(request.url));
await server.shutdown();
console.log(Deno.inspect(addresses), Deno.isatty(0), Deno.stdin.isTerminal(), Deno.build.os);
for await (const change of Deno.watchFs(".")) console.log(change.kind);
try {
  listener.close();
  connection.close();
} catch (error) {
  if (error instanceof Deno.errors.NotFound) console.log(error.message);
}

// @ts-expect-error -- a path is text
await Deno.readTextFile(1);
// @ts-expect-error -- a promise of text
const wrong: string = Deno.readTextFile("a");
// @ts-expect-error -- no such record type
await Deno.resolveDns("example.com", "NONE");
