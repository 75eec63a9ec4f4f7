// Watching a directory for changes.
const root = Deno.realPathSync(Deno.makeTempDirSync());
Deno.mkdirSync(`${root}/hidden`);
const watcher = Deno.watchFs(root, { ignore: `${root}/hidden` });
const seen = new Set();
const wanted = ["create", "modify", "remove"];
Deno.writeTextFileSync(`${root}/hidden/x`, "");
Deno.writeTextFileSync(`${root}/file`, "text");
Deno.removeSync(`${root}/file`);
for await (const event of watcher) {
  if (event.paths.some((path) => path.includes("hidden"))) console.log("ignored path seen");
  seen.add(event.kind);
  if (wanted.every((kind) => seen.has(kind))) break;
}
console.log("seen", wanted.filter((kind) => seen.has(kind)).join(" "));
console.log((await watcher.next()).done);
try {
  Deno.watchFs(`${root}/none`);
} catch (error) {
  console.log(error.name, error.message.endsWith("no such file or directory"));
}
Deno.removeSync(root, { recursive: true });
