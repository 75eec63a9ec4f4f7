// The path of the program `stockade` for this platform.
"use strict";

const { join } = require("node:path");

/** Packages by platform, as `process.platform-process.arch`. */
const PACKAGES = { "linux-x64": "@stockade/linux-x64" };

/**
 * The path of the program.
 * @returns {string}
 * @throws {Error} if there is no program for this platform, or its package is not installed
 */
function program() {
  const platform = `${process.platform}-${process.arch}`;
  const name = PACKAGES[platform];
  if (!name) {
    throw new Error(
      `stockade has no program for ${platform}, only for: ${Object.keys(PACKAGES).join(", ")}\n` +
        "  fix: build it from source, as its README describes",
    );
  }
  if (process.platform === "linux" && !process.report.getReport().header.glibcVersionRuntime) {
    throw new Error(
      "stockade needs the GNU C library, and this system has another, such as musl\n" +
        "  fix: use an image with glibc 2.35 or newer, such as debian:12",
    );
  }
  try {
    return join(require.resolve(`${name}/package.json`), "..", "bin", "stockade");
  } catch {
    throw new Error(
      `the package ${name} is not installed\n  fix: install stockade without --omit=optional, or add ${name} itself`,
    );
  }
}

module.exports = { program };
