// Files of granted folders, with callbacks: each function is that of `node:fs/promises`. A grant is asked with a message,
// and its answer is waited for, so nothing here can be done at once: the functions that end in `Sync` say which one to use.
import "internal:globals";
import EventEmitter from "node:events";
import { byNumber, openFile } from "internal:file_handle";
import { constants, Dirent, fsError, invalid, locate, pathText, Stats } from "internal:files";
import { createReadStream, createWriteStream, ReadStream, WriteStream } from "internal:file_streams";
import promises, { Dir } from "node:fs/promises";

function callbackOf(args) {
  const callback = args.pop();
  if (typeof callback !== "function") throw invalid("cb", "of type function", callback);
  return callback;
}

// A function with a callback. `spread`: what a fulfilled promise gives, as arguments.
const later = (work, spread = (value) => value === undefined ? [] : [value]) => (...args) => {
  const callback = callbackOf(args);
  // A bad argument throws, as it does in Node; the path of a file that is not there does not.
  const done = work(...args);
  done.then((value) => queueMicrotask(() => callback(null, ...spread(value))), (error) =>
    queueMicrotask(() => callback(error)));
};

export const access = later(promises.access);
export const appendFile = later(promises.appendFile);
export const chmod = later(promises.chmod);
export const chown = later(promises.chown);
export const copyFile = later(promises.copyFile);
export const cp = later(promises.cp);
export const lchmod = later(promises.lchmod);
export const lchown = later(promises.lchown);
export const link = later(promises.link);
export const lstat = later(promises.lstat);
export const lutimes = later(promises.lutimes);
export const mkdir = later(promises.mkdir);
export const mkdtemp = later(promises.mkdtemp);
export const opendir = later(promises.opendir);
export const readdir = later(promises.readdir);
export const readFile = later((file, options) =>
  typeof file === "number"
    ? Promise.resolve().then(() => byNumber(file, "read").readFile(options))
    : promises.readFile(file, options)
);
export const readlink = later(promises.readlink);
export const realpath = later(promises.realpath);
realpath.native = realpath;
export const rename = later(promises.rename);
export const rm = later(promises.rm);
export const rmdir = later(promises.rmdir);
export const stat = later(promises.stat);
export const statfs = later(promises.statfs);
export const symlink = later((target, path) => promises.symlink(target, path));
export const truncate = later(promises.truncate);
export const unlink = later(promises.unlink);
export const utimes = later(promises.utimes);
export const writeFile = later((file, data, options) =>
  typeof file === "number"
    ? Promise.resolve().then(() => byNumber(file, "write").writeFile(data, options))
    : promises.writeFile(file, data, options)
);

export function exists(path, callback) {
  promises.access(path).then(() => callback(true), () => callback(false));
}

// ---- Files that are open, by their numbers ----

export const open = later((path, flags, mode) => openFile(path, flags, mode), (handle) => [handle.fd]);

const withHandle = (syscall, work, spread) =>
  later((fd, ...args) => Promise.resolve().then(() => work(byNumber(fd, syscall), ...args)), spread);

export const close = (fd, callback = () => {}) => withHandle("close", (handle) => handle.close())(fd, callback);
export const fchmod = withHandle("fchmod", (handle, mode) => promises.chmod(handle.path, mode));
export const fchown = withHandle("fchown", (handle, uid, gid) => promises.chown(handle.path, uid, gid));
export const fdatasync = withHandle("fdatasync", (handle) => handle.datasync());
export const fstat = withHandle("fstat", (handle, options) => handle.stat(options));
export const fsync = withHandle("fsync", (handle) => handle.sync());
export const ftruncate = withHandle("ftruncate", (handle, length) => handle.truncate(length));
export const futimes = withHandle("futime", (handle, atime, mtime) => promises.utimes(handle.path, atime, mtime));
export const read = withHandle(
  "read",
  (handle, ...args) => handle.read(...args),
  ({ bytesRead, buffer }) => [bytesRead, buffer],
);
export const readv = withHandle(
  "read",
  (handle, ...args) => handle.readv(...args),
  ({ bytesRead, buffers }) => [bytesRead, buffers],
);
export const write = withHandle(
  "write",
  (handle, ...args) => handle.write(...args),
  ({ bytesWritten, buffer }) => [bytesWritten, buffer],
);
export const writev = withHandle(
  "write",
  (handle, ...args) => handle.writev(...args),
  ({ bytesWritten, buffers }) => [bytesWritten, buffers],
);

// ---- Changes ----

class FSWatcher extends EventEmitter {
  #stop = new AbortController();

  constructor(path, options) {
    super();
    this.#run(promises.watch(path, { ...options, signal: this.#stop.signal }));
    options?.signal?.addEventListener("abort", () => this.close(), { once: true });
  }

  async #run(changes) {
    try {
      for await (const { eventType, filename } of changes) this.emit("change", eventType, filename);
    } catch (error) {
      if (!this.#stop.signal.aborted) this.emit("error", error);
    }
    this.emit("close");
  }

  close() {
    this.#stop.abort();
  }
  ref() {
    return this;
  }
  unref() {
    return this;
  }
}

export function watch(path, options, listener) {
  if (typeof options === "function") [options, listener] = [undefined, options];
  locate(path, "watch");
  const watcher = new FSWatcher(path, typeof options === "string" ? undefined : options);
  if (listener !== undefined) watcher.on("change", listener);
  return watcher;
}

// ---- What would have to be done at once ----

const sync = (name) => (path) => {
  // Where no folder is granted there is nothing to wait for: the path is not there.
  const text = typeof path === "number" ? undefined : pathText(path);
  if (text !== undefined) locate(text, name);
  throw fsError(
    "ENOSYS",
    name,
    text,
    undefined,
    `a granted folder is read and written with promises or callbacks: use ${name} of node:fs/promises in place of ${name}Sync`,
  );
};

export const accessSync = sync("access");
export const appendFileSync = sync("appendFile");
export const chmodSync = sync("chmod");
export const chownSync = sync("chown");
export const closeSync = sync("close");
export const copyFileSync = sync("copyFile");
export const cpSync = sync("cp");
export const fchmodSync = sync("fchmod");
export const fstatSync = sync("fstat");
export const fsyncSync = sync("fsync");
export const ftruncateSync = sync("ftruncate");
export const futimesSync = sync("futimes");
export const linkSync = sync("link");
export const mkdirSync = sync("mkdir");
export const mkdtempSync = sync("mkdtemp");
export const openSync = sync("open");
export const opendirSync = sync("opendir");
export const readdirSync = sync("readdir");
export const readFileSync = sync("readFile");
export const readlinkSync = sync("readlink");
export const readSync = sync("read");
export const realpathSync = sync("realpath");
realpathSync.native = realpathSync;
export const renameSync = sync("rename");
export const rmdirSync = sync("rmdir");
export const rmSync = sync("rm");
export const symlinkSync = sync("symlink");
export const truncateSync = sync("truncate");
export const unlinkSync = sync("unlink");
export const utimesSync = sync("utimes");
export const writeFileSync = sync("writeFile");
export const writeSync = sync("write");

// What is in no granted folder is not there, which needs no answer of anybody's.
export function existsSync(path) {
  try {
    if (locate(path, "access").folder === undefined) return true;
  } catch {
    return false;
  }
  return sync("access")(path);
}

const statsSync = (name) => (path, options) => {
  try {
    locate(path, name);
  } catch (error) {
    if (error.code === "ENOENT" && options?.throwIfNoEntry === false) return undefined;
    throw error;
  }
  return sync(name)(path);
};
export const statSync = statsSync("stat");
export const lstatSync = statsSync("lstat");

export const { COPYFILE_EXCL, F_OK, O_RDONLY, O_RDWR, O_WRONLY, R_OK, W_OK, X_OK } = constants;
export { constants, createReadStream, createWriteStream, Dirent, FSWatcher, promises, ReadStream, Stats, WriteStream };
export { Dir };
export const FileReadStream = ReadStream;
export const FileWriteStream = WriteStream;
export default {
  access,
  accessSync,
  appendFile,
  appendFileSync,
  chmod,
  chmodSync,
  chown,
  chownSync,
  close,
  closeSync,
  constants,
  copyFile,
  copyFileSync,
  cp,
  cpSync,
  createReadStream,
  createWriteStream,
  Dir,
  Dirent,
  exists,
  existsSync,
  F_OK,
  fchmod,
  fchmodSync,
  fchown,
  fdatasync,
  FileReadStream,
  FileWriteStream,
  fstat,
  fstatSync,
  FSWatcher,
  fsync,
  fsyncSync,
  ftruncate,
  ftruncateSync,
  futimes,
  futimesSync,
  lchmod,
  lchown,
  link,
  linkSync,
  lstat,
  lstatSync,
  lutimes,
  mkdir,
  mkdirSync,
  mkdtemp,
  mkdtempSync,
  open,
  opendir,
  opendirSync,
  openSync,
  promises,
  R_OK,
  read,
  readdir,
  readdirSync,
  readFile,
  readFileSync,
  readlink,
  readlinkSync,
  ReadStream,
  readSync,
  readv,
  realpath,
  realpathSync,
  rename,
  renameSync,
  rm,
  rmdir,
  rmdirSync,
  rmSync,
  stat,
  statfs,
  Stats,
  statSync,
  symlink,
  symlinkSync,
  truncate,
  truncateSync,
  unlink,
  unlinkSync,
  utimes,
  utimesSync,
  W_OK,
  watch,
  write,
  writeFile,
  writeFileSync,
  WriteStream,
  writeSync,
  writev,
  X_OK,
};
