// Packages that use `node:fs`, in a granted folder.

import fs from "node:fs";
import fse from "fs-extra";
import graceful from "graceful-fs";
import Papa from "papaparse";
import replace from "write-file-atomic";

const R = "/files/OUT/packages";

async function extra() {
  await fse.outputJson(`${R}/a/b/x.json`, { a: 1 });
  await fse.copy(`${R}/a`, `${R}/c`);
  await fse.move(`${R}/c`, `${R}/d`);
  await fse.ensureFile(`${R}/e/f/g`);
  await fse.emptyDir(`${R}/e`);
  const read = await fse.readJson(`${R}/d/b/x.json`);
  await fse.remove(`${R}/d`);
  return [read, await fse.readdir(R), await fse.pathExists(`${R}/d`)];
}

async function many() {
  const write = (i) =>
    new Promise((done, failed) =>
      graceful.writeFile(`${R}/m/${i % 20}`, String(i), (error) => error ? failed(error) : done())
    );
  await fs.promises.mkdir(`${R}/m`);
  await Promise.all(Array.from({ length: 200 }, (_, i) => write(i)));
  return (await fs.promises.readdir(`${R}/m`)).length;
}

async function whole() {
  await replace(`${R}/w`, "one");
  await Promise.all([replace(`${R}/w`, "two"), replace(`${R}/w`, "two")]);
  return [await fs.promises.readFile(`${R}/w`, "utf8"), (await fs.promises.readdir(R)).filter((name) => name.startsWith("w"))];
}

async function rows() {
  await fs.promises.writeFile(`${R}/rows.csv`, "a,b\n" + Array.from({ length: 5000 }, (_, i) => `${i},"x ${i}"`).join("\n"));
  return new Promise((done, failed) => {
    const found = [0, 0];
    fs.createReadStream(`${R}/rows.csv`).pipe(Papa.parse(Papa.NODE_STREAM_INPUT, { header: true }))
      .on("data", ({ a }) => {
        found[0]++;
        found[1] += Number(a);
      })
      .on("end", () => done(found))
      .on("error", failed);
  });
}

export default async function run() {
  await fs.promises.rm(R, { recursive: true, force: true });
  return { "fs-extra": await extra(), "graceful-fs": await many(), "write-file-atomic": await whole(), papaparse: await rows() };
}
