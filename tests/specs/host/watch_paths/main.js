// Events name files from the root, without `.` and `..`, however the watched path was written.
const root = Deno.realPathSync(Deno.makeTempDirSync());
Deno.mkdirSync(`${root}/a/hidden`, { recursive: true });
Deno.symlinkSync(`${root}/a`, `${root}/link`);
Deno.chdir(root);
async function created(path, options) {
  const watcher = Deno.watchFs(path, options);
  Deno.writeTextFileSync("a/hidden/x", "");
  Deno.writeTextFileSync("a/file", "");
  const seen = [];
  for await (const { kind, paths } of watcher) {
    if (kind === "create") seen.push(...paths.map((path) => path.replace(root, "")));
    if (seen.some((path) => path.endsWith("file"))) break;
  }
  Deno.removeSync("a/hidden/x");
  Deno.removeSync("a/file");
  return seen.join(" ");
}
console.log(await created("."));
console.log(await created("./a/"));
console.log(await created("a/../a"));
console.log(await created(`${root}/link/./`));
console.log(await created("a", { ignore: "a/hidden" }));
console.log(await created("link", { ignore: ["./link/../link/hidden"] }));
console.log(await created("link", { ignore: [`${root}/a/hidden`] }));
Deno.chdir("/");
Deno.removeSync(root, { recursive: true });
