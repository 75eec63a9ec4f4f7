import { systemError } from "internal:errors";

const MISSING = "no such file or directory; a granted folder is a binding in env";
const READ_ONLY = "read-only file system; a granted folder is a binding in env";

const refuse = (code, message, name) => async (path) => {
  throw systemError(code, name, `${message} '${path}'`, { path });
};
const absent = (name) => refuse("ENOENT", MISSING, name);
const readOnly = (name) => refuse("EROFS", READ_ONLY, name);

export const access = absent("access");
export const lstat = absent("lstat");
export const open = absent("open");
export const readdir = absent("scandir");
export const readFile = absent("open");
export const realpath = absent("realpath");
export const stat = absent("stat");
export const appendFile = readOnly("open");
export const mkdir = readOnly("mkdir");
export const rename = readOnly("rename");
export const rm = readOnly("rm");
export const unlink = readOnly("unlink");
export const writeFile = readOnly("open");
export const constants = { F_OK: 0, R_OK: 4, W_OK: 2, X_OK: 1 };
export default {
  access,
  appendFile,
  constants,
  lstat,
  mkdir,
  open,
  readdir,
  readFile,
  realpath,
  rename,
  rm,
  stat,
  unlink,
  writeFile,
};
