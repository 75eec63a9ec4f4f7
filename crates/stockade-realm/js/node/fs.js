// A guest has no files but those of its bindings: every path is one that is not there, and nothing is written.
import "internal:globals";
import { systemError } from "internal:errors";
import * as promises from "node:fs/promises";

const MISSING = "no such file or directory; a granted folder is a binding in env";
const READ_ONLY = "read-only file system; a granted folder is a binding in env";

const refuse = (code, message, name) => (path) => {
  throw systemError(code, name, `${message} '${path}'`, { path });
};
const absent = (name) => refuse("ENOENT", MISSING, name);
const readOnly = (name) => refuse("EROFS", READ_ONLY, name);
const later = (work) => (...args) => {
  const callback = args.pop();
  queueMicrotask(() => {
    try {
      work(...args);
    } catch (error) {
      callback(error);
    }
  });
};

export const accessSync = absent("access");
export const lstatSync = absent("lstat");
export const openSync = absent("open");
export const readdirSync = absent("scandir");
export const readFileSync = absent("open");
export const readlinkSync = absent("readlink");
export const realpathSync = absent("realpath");
export const mkdirSync = readOnly("mkdir");
export const rmSync = readOnly("rm");
export const unlinkSync = readOnly("unlink");
export const writeFileSync = readOnly("open");
export const appendFileSync = readOnly("open");
export const existsSync = () => false;
export function statSync(path, options) {
  return options?.throwIfNoEntry === false ? undefined : absent("stat")(path);
}

export const access = later(accessSync);
export const lstat = later(lstatSync);
export const mkdir = later(mkdirSync);
export const open = later(openSync);
export const readdir = later(readdirSync);
export const readFile = later(readFileSync);
export const realpath = later(realpathSync);
export const stat = later(statSync);
export const unlink = later(unlinkSync);
export const writeFile = later(writeFileSync);
export const appendFile = later(appendFileSync);
export const exists = (path, callback) => queueMicrotask(() => callback(false));
export const createReadStream = absent("open");
export const createWriteStream = readOnly("open");
export const constants = { F_OK: 0, R_OK: 4, W_OK: 2, X_OK: 1 };
export { promises };
export default {
  access,
  accessSync,
  appendFile,
  appendFileSync,
  constants,
  createReadStream,
  createWriteStream,
  exists,
  existsSync,
  lstat,
  lstatSync,
  mkdir,
  mkdirSync,
  open,
  openSync,
  promises,
  readdir,
  readdirSync,
  readFile,
  readFileSync,
  readlinkSync,
  realpath,
  realpathSync,
  rmSync,
  stat,
  statSync,
  unlink,
  unlinkSync,
  writeFile,
  writeFileSync,
};
