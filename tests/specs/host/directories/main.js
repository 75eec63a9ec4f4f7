// Directories: making, listing, changing into, removing.
const root = Deno.realPathSync(Deno.makeTempDirSync());
await Deno.mkdir(`${root}/a/b/c`, { recursive: true });
Deno.mkdirSync(`${root}/a/d`);
await Deno.writeTextFile(`${root}/a/file`, "");
const names = [];
for await (const entry of Deno.readDir(`${root}/a`)) {
  names.push(`${entry.name}${entry.isDirectory ? "/" : ""}`);
}
console.log(names.sort());
Deno.chdir(`${root}/a`);
console.log(Deno.cwd() === `${root}/a`, (await Deno.stat("b/c")).isDirectory);
for (const attempt of [() => Deno.mkdir("b"), () => Deno.remove("b"), () => Deno.mkdir("x/y")]) {
  try {
    await attempt();
  } catch (error) {
    console.log(error.name);
  }
}
await Deno.remove("b", { recursive: true });
Deno.removeSync("d");
Deno.removeSync("file");
Deno.chdir("/");
Deno.removeSync(root, { recursive: true });
const file = Deno.makeTempFileSync({ suffix: ".tmp" });
console.log(file.endsWith(".tmp"), Deno.statSync(file).isFile);
Deno.removeSync(file);
