// Reading and writing files, in both forms.
const dir = await Deno.makeTempDir({ prefix: "stockade-" });
const path = `${dir}/a.txt`;
await Deno.writeTextFile(path, "one\n");
await Deno.writeTextFile(path, "two\n", { append: true });
console.log(JSON.stringify(await Deno.readTextFile(path)));
Deno.writeFileSync(path, new Uint8Array([1, 2, 3]));
console.log(Deno.readFileSync(path));
Deno.writeTextFileSync(path, "ä");
console.log((await Deno.readFile(path)).length, Deno.readTextFileSync(path));

const file = await Deno.open(path, { read: true, write: true, truncate: true });
await file.write(new TextEncoder().encode("hello world"));
await file.seek(6, Deno.SeekMode.Start);
const buffer = new Uint8Array(5);
console.log(await file.read(buffer), new TextDecoder().decode(buffer), await file.read(buffer));
file.close();
await Deno.truncate(path, 5);
console.log(Deno.readTextFileSync(path), (await Deno.stat(path)).size);

using opened = Deno.openSync(path);
console.log(await new Response(opened.readable).text());

await Deno.copyFile(path, `${dir}/b.txt`);
await Deno.rename(`${dir}/b.txt`, `${dir}/c.txt`);
console.log([...Deno.readDirSync(dir)].map((entry) => entry.name).sort());
try {
  await Deno.readTextFile(`${dir}/none`);
} catch (error) {
  console.log(error instanceof Deno.errors.NotFound, error.name, error.message.includes("none"));
}
await Deno.remove(dir, { recursive: true });
try {
  Deno.statSync(dir);
} catch (error) {
  console.log(error.name);
}
