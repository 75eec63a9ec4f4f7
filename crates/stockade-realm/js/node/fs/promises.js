// Files of granted folders, which are at `/files/NAME`. Without a grant every path is one that is not there.
import { Buffer } from "node:buffer";
import "internal:file_streams";
import { FileHandle, openFile, parentOf } from "internal:file_handle";
import {
  ask,
  constants,
  contentOf,
  decoded,
  encodingOf,
  entries,
  flagsOf,
  fsError,
  join,
  locate,
  pathText,
  readWhole,
  resolved,
  stat as statOf,
  writable,
} from "internal:files";

const encoded = (text, options) => encodingOf(options) === null && isBuffer(options) ? Buffer.from(text) : text;
const isBuffer = (options) => (options?.encoding ?? options) === "buffer";

export const stat = (path, options) => statOf(path, options, "stat");
export const lstat = (path, options) => statOf(path, options, "lstat");

export async function access(path, mode = constants.F_OK) {
  await statOf(path, undefined, "access");
  // Whether a folder may be written is not asked: the write says so.
  if (mode & constants.X_OK) {
    const found = await statOf(path, undefined, "access");
    if (!found.isDirectory()) throw fsError("EACCES", "access", pathText(path));
  }
}

export const open = (path, flags = "r", _mode = undefined) => openFile(path, flags);

export async function readFile(path, options) {
  const encoding = encodingOf(options);
  options?.signal?.throwIfAborted();
  if (path instanceof FileHandle) return path.readFile(options);
  return decoded(await readWhole(locate(path, "open")), encoding);
}

export async function writeFile(path, data, options) {
  const content = contentOf(data, encodingOf(options));
  options?.signal?.throwIfAborted();
  if (path instanceof FileHandle) return path.writeFile(data, options);
  const flags = flagsOf(options?.flag, "w");
  const place = writable(path, "open");
  await parentOf(place);
  if (flags.append) await ask(place, "open", (folder, inside) => folder.append(inside, content));
  else if (flags.truncate) {
    const createNew = flags.exclusive;
    await ask(place, "open", (folder, inside) => folder.write(inside, content, { createNew }));
  } else {
    const handle = await openFile(path, options.flag);
    try {
      await handle.writeFile(content);
    } finally {
      await handle.close();
    }
  }
}

export function appendFile(path, data, options) {
  if (path instanceof FileHandle) return path.appendFile(data, options);
  const given = typeof options === "string" ? { encoding: options } : options;
  return writeFile(path, data, { ...given, flag: given?.flag ?? "a" });
}

async function* walk(path) {
  for await (const entry of entries(path)) {
    yield entry;
    if (entry.isDirectory()) yield* walk(join(path, entry.name));
  }
}

export async function readdir(path, options) {
  const text = pathText(path);
  const found = [];
  const recursive = options?.recursive === true;
  for await (const entry of recursive ? walk(text) : entries(text)) {
    if (options?.withFileTypes) found.push(entry);
    else {
      const below = recursive ? join(entry.parentPath, entry.name).slice(join(text, "").length) : entry.name;
      found.push(encoded(below, options));
    }
  }
  return found;
}

export class Dir {
  #entries;
  constructor(path) {
    this.path = path;
    this.#entries = entries(path, "opendir");
  }
  async read() {
    return (await this.#entries.next()).value ?? null;
  }
  async close() {
    await this.#entries.return();
  }
  async *[Symbol.asyncIterator]() {
    yield* this.#entries;
  }
}

export async function opendir(path) {
  const found = await statOf(path, undefined, "opendir");
  if (!found.isDirectory()) throw fsError("ENOTDIR", "opendir", pathText(path));
  return new Dir(pathText(path));
}

export async function mkdir(path, options) {
  const recursive = typeof options === "object" && options?.recursive === true;
  const place = locate(path, "mkdir");
  const { text } = place;
  if (place.folder === undefined || place.path === "") {
    if (recursive) return undefined;
    throw fsError("EEXIST", "mkdir", text);
  }
  const names = place.path.split("/");
  // The first one that is made, which Node gives back.
  let first;
  for (let count = recursive ? 1 : names.length; count <= names.length && first === undefined; count++) {
    const part = names.slice(0, count).join("/");
    const info = await ask(place, "mkdir", (folder) => folder.stat(part));
    if (info === null) first = count;
    else if (!recursive || (info.kind !== "folder" && count === names.length)) throw fsError("EEXIST", "mkdir", text);
    else if (info.kind !== "folder") throw fsError("ENOTDIR", "mkdir", text);
  }
  if (first === undefined) return undefined;
  if (!recursive) await parentOf(place, "mkdir");
  await ask(place, "mkdir", (folder, inside) => folder.createFolder(inside));
  return recursive ? `/files/${place.name}/${names.slice(0, first).join("/")}` : undefined;
}

// What lies at a path, which must be there.
async function found(place, syscall) {
  const info = await ask(place, syscall, (folder, inside) => folder.stat(inside));
  if (info === null) throw fsError("ENOENT", syscall, place.text);
  return info;
}

async function remove(place, syscall) {
  const deleted = await ask(place, syscall, (folder, inside) => folder.delete(inside));
  if (!deleted) throw fsError("ENOENT", syscall, place.text);
}

export async function unlink(path) {
  const place = writable(path, "unlink");
  if ((await found(place, "unlink")).kind === "folder") throw fsError("EISDIR", "unlink", place.text);
  await remove(place, "unlink");
}

export async function rmdir(path, options) {
  if (options?.recursive) return rm(path, options);
  const place = writable(path, "rmdir");
  if ((await found(place, "rmdir")).kind !== "folder") throw fsError("ENOTDIR", "rmdir", place.text);
  await remove(place, "rmdir");
}

export async function rm(path, options) {
  const place = writable(path, "rm");
  const info = await ask(place, "rm", (folder, inside) => folder.stat(inside));
  if (info === null) {
    if (options?.force) return;
    throw fsError("ENOENT", "rm", place.text);
  }
  if (info.kind === "folder") {
    if (!options?.recursive) {
      const error = fsError("EISDIR", "rm", place.text);
      error.code = "ERR_FS_EISDIR";
      throw error;
    }
    // Listed whole before anything is deleted, so that no page of the listing moves.
    const inside = [];
    for await (const entry of entries(place.text, "rm")) inside.push(entry.name);
    for (const name of inside) await rm(join(place.text, name), { ...options, force: true });
    if (place.path === "") return;
  }
  await ask(place, "rm", (folder, inside) => folder.delete(inside));
}

// Two paths of one grant: nothing goes from one to another but by reading and writing.
function both(from, to, syscall) {
  const [source, target] = [writable(from, syscall, pathText(to)), writable(to, syscall, pathText(to))];
  return [source, target, pathText(to)];
}

export async function rename(from, to) {
  const [source, target, dest] = both(from, to, "rename");
  if (source.folder !== target.folder) throw fsError("EXDEV", "rename", source.text, dest);
  await parentOf(target, "rename", dest);
  await ask(source, "rename", (folder, inside) => folder.rename(inside, target.path), dest);
}

export async function copyFile(from, to, mode = 0) {
  const source = locate(from, "copyfile", pathText(to));
  const target = writable(to, "copyfile", pathText(to));
  const dest = pathText(to);
  const createNew = (mode & constants.COPYFILE_EXCL) !== 0;
  if (source.folder === undefined) throw fsError("EISDIR", "copyfile", source.text, dest);
  await parentOf(target, "copyfile", dest);
  if (source.folder === target.folder) {
    await ask(source, "copyfile", (folder, inside) => folder.copy(inside, target.path, { createNew }), dest);
    return;
  }
  const stream = await ask(source, "copyfile", (folder, inside) => folder.readStream(inside), dest);
  if (stream === null) throw fsError("ENOENT", "copyfile", source.text, dest);
  await ask(target, "copyfile", (folder, inside) => folder.write(inside, stream, { createNew }), dest);
}

export async function cp(from, to, options) {
  const [source, target] = [pathText(from), pathText(to)];
  if (options?.filter !== undefined && !(await options.filter(source, target))) return;
  if (!(await stat(source)).isDirectory()) {
    const exists = await stat(target).then(() => true, () => false);
    if (exists && options?.force === false) {
      if (options.errorOnExist) throw fsError("EEXIST", "cp", source, target);
      return;
    }
    const slash = target.lastIndexOf("/");
    if (slash > 0) await mkdir(target.slice(0, slash), { recursive: true });
    return copyFile(source, target);
  }
  if (!options?.recursive) throw fsError("EISDIR", "cp", source, target);
  if (`${target}/`.startsWith(`${source}/`)) throw fsError("EINVAL", "cp", source, target);
  await mkdir(target, { recursive: true });
  const names = await readdir(source);
  for (const name of names) await cp(join(source, name), join(target, name), options);
}

export async function truncate(path, length = 0) {
  const place = writable(path, "open");
  await ask(place, "open", (folder, inside) => folder.truncate(inside, Math.max(0, Number(length))));
}

const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

export async function mkdtemp(prefix, options) {
  const text = pathText(prefix, "prefix");
  const random = crypto.getRandomValues(new Uint8Array(6));
  const path = text + Array.from(random, (byte) => LETTERS[byte % LETTERS.length]).join("");
  await mkdir(path);
  return encoded(path, options);
}

// A path without `.` and `..`. Links that the host has made have no other name here.
export async function realpath(path, options) {
  await statOf(path, undefined, "realpath");
  return encoded(resolved(path), options);
}

export async function readlink(path) {
  await statOf(path, undefined, "readlink");
  throw fsError("EINVAL", "readlink", pathText(path));
}

// A grant keeps no owners, times and permissions. To give a file those that it has changes nothing.
const keeps = (syscall, isSame) => async (path, ...args) => {
  const found = await statOf(path, undefined, syscall);
  if (!isSame(found, ...args)) throw fsError("EPERM", syscall, pathText(path));
};
const sameMode = (found, mode) => (found.mode & 0o777) === (Number(mode) & 0o777);
const sameOwner = (_, uid, gid) => (uid === 0 || uid === -1) && (gid === 0 || gid === -1);
const secondsOf = (time) => time instanceof Date ? time.getTime() / 1000 : Number(time);
const sameTime = (found, _, time) => Math.abs(secondsOf(time) - found.mtimeMs / 1000) < 0.002;
export const chmod = keeps("chmod", sameMode);
export const lchmod = keeps("lchmod", sameMode);
export const chown = keeps("chown", sameOwner);
export const lchown = keeps("lchown", sameOwner);
export const utimes = keeps("utime", sameTime);
export const lutimes = keeps("lutime", sameTime);

const noLinks = (syscall) => async (target, path) => {
  throw fsError("EPERM", syscall, String(target), String(path), "a granted folder gets no links");
};
export const link = noLinks("link");
export const symlink = noLinks("symlink");

export async function statfs(path) {
  throw fsError("ENOSYS", "statfs", pathText(path));
}

// `rename` where something appears or is gone, `change` where it is another. A name is relative to what is watched.
export async function* watch(path, options) {
  const signal = options?.signal;
  signal?.throwIfAborted();
  const place = locate(path, "watch");
  if (place.folder === undefined) throw fsError("ENOSYS", "watch", place.text);
  const recursive = options?.recursive === true;
  const changes = await ask(place, "watch", (folder, inside) => folder.watch(inside, { recursive }));
  const reader = changes.getReader();
  const stop = () => reader.cancel(signal.reason);
  signal?.addEventListener("abort", stop, { once: true });
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      const eventType = value.kind === "modify" ? "change" : "rename";
      yield { eventType, filename: nameOf(value, place) };
    }
    signal?.throwIfAborted();
  } finally {
    signal?.removeEventListener("abort", stop);
    await reader.cancel();
  }
}

// Null where changes were lost: anything may be another. What is watched itself has its own name.
function nameOf({ kind, path }, place) {
  if (kind === "rescan") return null;
  const start = place.path === "" ? "" : `${place.path}/`;
  return path.startsWith(start) ? path.slice(start.length) : path.slice(path.lastIndexOf("/") + 1);
}

export { constants };
export default {
  access,
  appendFile,
  chmod,
  chown,
  constants,
  copyFile,
  cp,
  lchmod,
  lchown,
  link,
  lstat,
  lutimes,
  mkdir,
  mkdtemp,
  open,
  opendir,
  readdir,
  readFile,
  readlink,
  realpath,
  rename,
  rm,
  rmdir,
  stat,
  statfs,
  symlink,
  truncate,
  unlink,
  utimes,
  watch,
  writeFile,
};
