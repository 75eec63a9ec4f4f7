// Finds the program `stockade`: in the package for this platform, or else in PATH.

import { realpathSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";

/** Packages by platform, as `process.platform-process.arch`. */
const PACKAGES = { "linux-x64": "@stockade/linux-x64" };

/** The script behind `npx stockade`, which is in PATH while a script of npm runs. It needs the program of the package. */
const LAUNCHER = fileURLToPath(new URL("../bin/stockade", import.meta.url));

/**
 * The path of the program in the package for this platform.
 * @returns {string}
 * @throws {Error} if there is no program for this platform, or its package is not installed
 */
export function packaged() {
  const platform = `${process.platform}-${process.arch}`;
  const name = PACKAGES[platform];
  if (!name) {
    throw new Error(
      `stockade has no program for ${platform}, only for: ${Object.keys(PACKAGES).join(", ")}\n` +
        "  fix: build it from source, as its README describes",
    );
  }
  try {
    return join(createRequire(import.meta.url).resolve(`${name}/package.json`), "..", "bin", "stockade");
  } catch {
    if (hasOtherLibrary()) {
      throw new Error(
        "stockade needs the GNU C library, and this system has another, such as musl\n" +
          "  fix: use an image with glibc 2.35 or newer, such as debian:12",
      );
    }
    throw new Error(
      `the package ${name} is not installed\n  fix: install stockade without --omit=optional, or add ${name} itself`,
    );
  }
}

/** Whether the system has a C library other than GNU's. Read after a failure only, because the report takes milliseconds. */
function hasOtherLibrary() {
  try {
    return !process.report.getReport().header.glibcVersionRuntime;
  } catch {
    return false; // Bun has no report, and Deno none without --allow-sys
  }
}

/**
 * The path of the program: that of the package for this platform, or else the first `stockade` in PATH.
 * @returns {string}
 * @throws {Error} if there is none
 */
export function program() {
  let reason;
  try {
    return packaged();
  } catch (error) {
    reason = error;
  }
  for (const folder of (process.env.PATH ?? "").split(delimiter)) {
    if (!folder) continue;
    const path = join(folder, "stockade");
    try {
      const found = statSync(path);
      if (found.isFile() && found.mode & 0o111 && realpathSync(path) !== LAUNCHER) return path;
    } catch {
      // not in this folder
    }
  }
  throw new Error(`${reason.message}, or put the program stockade into a folder of PATH`);
}
