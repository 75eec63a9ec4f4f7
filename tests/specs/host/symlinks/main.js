// Symbolic and hard links.
const root = Deno.realPathSync(await Deno.makeTempDir());
await Deno.writeTextFile(`${root}/target`, "there");
await Deno.symlink("target", `${root}/soft`);
Deno.linkSync(`${root}/target`, `${root}/hard`);
console.log(await Deno.readLink(`${root}/soft`), Deno.readTextFileSync(`${root}/soft`));
console.log((await Deno.lstat(`${root}/soft`)).isSymlink, (await Deno.stat(`${root}/soft`)).isFile);
console.log((await Deno.realPath(`${root}/soft`)) === `${root}/target`);
console.log(Deno.statSync(`${root}/hard`).nlink);
Deno.symlinkSync("nowhere", `${root}/broken`);
try {
  Deno.statSync(`${root}/broken`);
} catch (error) {
  console.log(error.name);
}
await Deno.chmod(`${root}/target`, 0o600);
console.log((Deno.statSync(`${root}/target`).mode & 0o777).toString(8));
await Deno.utime(`${root}/target`, 10, 20);
console.log(Deno.statSync(`${root}/target`).mtime.getTime());
await Deno.remove(root, { recursive: true });
