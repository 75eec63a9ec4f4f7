// Granted folders as Node's files: the grant NAME is the folder `/files/NAME`.
//
// A path has one file or folder at a time, and each operation is one call of the grant, or several: what happens in
// between is seen. A file that is open is its path and a position, and holds nothing at the host.
import { Buffer } from "node:buffer";
import "internal:globals";
import { granted } from "internal:grants";

const ROOT = "/files";

// Bytes that one call reads at most.
const MOST_READ = 16 << 20;

const ERRORS = {
  EACCES: [-13, "permission denied"],
  EAGAIN: [-11, "resource temporarily unavailable"],
  EBADF: [-9, "bad file descriptor"],
  EDQUOT: [-122, "disk quota exceeded"],
  EEXIST: [-17, "file already exists"],
  EFBIG: [-27, "file too large"],
  EINVAL: [-22, "invalid argument"],
  EIO: [-5, "i/o error"],
  EISDIR: [-21, "illegal operation on a directory"],
  ENOENT: [-2, "no such file or directory"],
  ENOSPC: [-28, "no space left on device"],
  ENOSYS: [-38, "function not implemented"],
  ENOTDIR: [-20, "not a directory"],
  ENOTEMPTY: [-39, "directory not empty"],
  EPERM: [-1, "operation not permitted"],
  EROFS: [-30, "read-only file system"],
  ESTALE: [-116, "stale file handle"],
  EXDEV: [-18, "cross-device link not permitted"],
};

// An error as Node's. `why`: what it would not say.
export function fsError(code, syscall, path, dest, why) {
  const [errno, text] = ERRORS[code] ?? ERRORS.EIO;
  const where = path === undefined ? "" : ` '${path}'${dest === undefined ? "" : ` -> '${dest}'`}`;
  const error = new Error(`${code}: ${text}, ${syscall}${where}${why === undefined ? "" : ` (${why})`}`);
  Object.assign(error, { errno, code, syscall });
  if (path !== undefined) error.path = path;
  if (dest !== undefined) error.dest = dest;
  return error;
}

export function invalid(name, expected, given) {
  const shown = given === null || given === undefined ? String(given) : `type ${typeof given}`;
  const error = new TypeError(`The "${name}" argument must be ${expected}. Received ${shown}`);
  error.code = "ERR_INVALID_ARG_TYPE";
  return error;
}

function fromHost(error, syscall, path, dest) {
  if (typeof error?.code !== "string") return error;
  const code = Object.hasOwn(ERRORS, error.code) ? error.code : "EIO";
  const failure = fsError(code, syscall, path, dest);
  failure.cause = error;
  return failure;
}

// The text of a path: a string, bytes or a `file:` URL.
export function pathText(path, name = "path") {
  if (path instanceof URL) {
    if (path.protocol !== "file:") {
      const error = new TypeError("The URL must be of scheme file");
      error.code = "ERR_INVALID_URL_SCHEME";
      throw error;
    }
    path = decodeURIComponent(path.pathname);
  }
  if (ArrayBuffer.isView(path)) path = Buffer.from(path).toString();
  if (typeof path !== "string") throw invalid(name, "of type string or an instance of Buffer or URL", path);
  if (path.includes("\0")) {
    const error = new TypeError(`The argument '${name}' must be a string without null bytes`);
    error.code = "ERR_INVALID_ARG_VALUE";
    throw error;
  }
  return path;
}

// The names of a path from the root on. The working directory is the root.
function namesOf(text) {
  const names = [];
  for (const name of text.split("/")) {
    if (name === "..") names.pop();
    else if (name !== "" && name !== ".") names.push(name);
  }
  return names;
}

export const resolved = (path) => `/${namesOf(pathText(path)).join("/")}`;

let mounted;

// Where a path lies: a grant and a path in it; `above` for the folders that grants are in.
export function locate(path, syscall, dest) {
  const text = pathText(path);
  const [root, name, ...rest] = namesOf(text);
  mounted ??= granted("Files");
  if (root === undefined) return { text, above: ["files"] };
  if (root !== ROOT.slice(1)) throw fsError("ENOENT", syscall, text, dest, `granted folders are below ${ROOT}`);
  if (name === undefined) return { text, above: [...mounted.keys()] };
  const folder = mounted.get(name);
  if (folder === undefined) {
    throw fsError("ENOENT", syscall, text, dest, `no folder is granted as ${name}`);
  }
  return { text, folder, name, path: rest.join("/") };
}

// A place where something can be changed.
export function writable(path, syscall, dest) {
  const place = locate(path, syscall, dest);
  if (place.folder === undefined) throw fsError("EROFS", syscall, place.text, dest);
  return place;
}

// A call of a grant, with Node's errors.
export async function ask(place, syscall, work, dest) {
  try {
    return await work(place.folder, place.path);
  } catch (error) {
    throw fromHost(error, syscall, place.text, dest);
  }
}

const FILE = 0o100644;
const FOLDER = 0o040755;
const TYPE = 0o170000;

// What is known of a file. Owners, links and permissions are those of no one.
export class Stats {
  constructor(info, ino, big) {
    const ms = info.modified ?? 0;
    const number = big ? BigInt : Number;
    this.dev = number(0);
    this.mode = number(info.kind === "folder" ? FOLDER : FILE);
    this.nlink = number(1);
    this.uid = number(0);
    this.gid = number(0);
    this.rdev = number(0);
    this.blksize = number(4096);
    this.ino = number(ino);
    this.size = number(info.size);
    this.blocks = number(Math.ceil(info.size / 512));
    for (const name of ["atime", "mtime", "ctime", "birthtime"]) {
      this[`${name}Ms`] = number(Math.floor(ms));
      if (big) this[`${name}Ns`] = BigInt(Math.floor(ms)) * 1_000_000n;
      this[name] = new Date(ms);
    }
  }
  isFile() {
    return (Number(this.mode) & TYPE) === 0o100000;
  }
  isDirectory() {
    return (Number(this.mode) & TYPE) === 0o040000;
  }
  isSymbolicLink() {
    return false;
  }
  isFIFO() {
    return false;
  }
  isSocket() {
    return false;
  }
  isBlockDevice() {
    return false;
  }
  isCharacterDevice() {
    return false;
  }
}

// A number for a path: programs compare it to know whether two paths are one file.
function inodeOf(text) {
  let hash = 0xcbf29ce484222325n;
  for (const byte of new TextEncoder().encode(text)) hash = ((hash ^ BigInt(byte)) * 0x100000001b3n) & 0x1fffffffffffffn;
  return hash;
}

export async function stat(path, options, syscall = "stat") {
  const place = locate(path, syscall);
  const info = place.folder === undefined
    ? { kind: "folder", size: 0, modified: 0 }
    : await ask(place, syscall, (folder, inside) => folder.stat(inside));
  if (info === null) throw fsError("ENOENT", syscall, place.text);
  return new Stats(info, inodeOf(resolved(place.text)), options?.bigint === true);
}

export class Dirent {
  constructor(name, parentPath, kind) {
    this.name = name;
    this.parentPath = parentPath;
    this.path = parentPath;
    Object.defineProperty(this, "kind", { value: kind });
  }
  isFile() {
    return this.kind === "file";
  }
  isDirectory() {
    return this.kind === "folder";
  }
  isSymbolicLink() {
    return false;
  }
  isFIFO() {
    return false;
  }
  isSocket() {
    return false;
  }
  isBlockDevice() {
    return false;
  }
  isCharacterDevice() {
    return false;
  }
}

// The entries of one folder, in pages as the host gives them.
export async function* entries(path, syscall = "scandir") {
  const place = locate(path, syscall);
  if (place.folder === undefined) {
    for (const name of place.above) yield new Dirent(name, place.text, "folder");
    return;
  }
  let cursor;
  do {
    const options = cursor === undefined ? undefined : { cursor };
    const listed = await ask(place, syscall, (folder, inside) => folder.list(inside, options));
    for (const { name, kind } of listed.entries) yield new Dirent(name, place.text, kind);
    cursor = listed.cursor ?? undefined;
  } while (cursor !== undefined);
}

export const join = (folder, name) => folder.endsWith("/") ? `${folder}${name}` : `${folder}/${name}`;

// ---- Contents ----

export function encodingOf(options) {
  const encoding = typeof options === "string" ? options : options?.encoding;
  if (encoding === undefined || encoding === null || encoding === "buffer") return null;
  if (!Buffer.isEncoding(encoding)) {
    const error = new TypeError(`The argument 'encoding' is invalid encoding. Received '${encoding}'`);
    error.code = "ERR_INVALID_ARG_VALUE";
    throw error;
  }
  return encoding;
}

export const decoded = (bytes, encoding) => encoding === null ? bytes : bytes.toString(encoding);

// What is written: bytes, or a stream of them.
export function contentOf(data, encoding) {
  if (typeof data === "string") return Buffer.from(data, encoding ?? "utf8");
  if (ArrayBuffer.isView(data)) return data;
  if (data instanceof ReadableStream) return data;
  const iterate = data?.[Symbol.asyncIterator] ?? data?.[Symbol.iterator];
  if (typeof data === "object" && data !== null && iterate !== undefined) return streamOf(data, encoding);
  throw invalid("data", "of type string or an instance of Buffer, TypedArray, DataView, Stream or iterable", data);
}

// A stream of what an iterable gives.
export function streamOf(iterable, encoding) {
  const iterator = iterable[Symbol.asyncIterator]?.() ?? iterable[Symbol.iterator]();
  return new ReadableStream({
    async pull(controller) {
      const { done, value } = await iterator.next();
      if (done) return controller.close();
      const bytes = contentOf(value, encoding);
      controller.enqueue(new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength));
    },
    async cancel(reason) {
      await iterator.return?.(reason);
    },
  }, { highWaterMark: 0 });
}

// `length` bytes from `offset` on, or fewer at the end of the file.
export async function readPart(place, offset, length, syscall = "read") {
  const found = await ask(
    place,
    syscall,
    (folder, inside) => folder.read(inside, { offset, length: Math.min(length, MOST_READ) }),
  );
  if (found === null) throw fsError("ENOENT", syscall, place.text);
  return Buffer.from(found.buffer, found.byteOffset, found.byteLength);
}

// All bytes of a file.
export async function readWhole(place, syscall = "open", offset = 0) {
  if (place.folder === undefined) throw fsError("EISDIR", "read", place.text);
  const first = await readPart(place, offset, MOST_READ, syscall);
  if (first.length < MOST_READ) return first;
  const parts = [first];
  const options = { offset: offset + MOST_READ };
  const stream = await ask(place, syscall, (folder, inside) => folder.readStream(inside, options));
  if (stream === null) return first;
  try {
    for await (const part of stream) parts.push(part);
  } catch (error) {
    throw fromHost(error, "read", place.text);
  }
  return Buffer.concat(parts);
}

// What a flag of `open` means.
export function flagsOf(flags, fallback) {
  const given = flags ?? fallback;
  if (typeof given === "number") {
    const access = given & 3;
    return {
      read: access !== constants.O_WRONLY,
      write: access !== constants.O_RDONLY,
      append: Boolean(given & constants.O_APPEND),
      create: Boolean(given & constants.O_CREAT),
      truncate: Boolean(given & constants.O_TRUNC),
      exclusive: Boolean(given & constants.O_EXCL),
    };
  }
  const text = String(given).replace("s", "");
  const [, kind, rest] = /^([rwa])((?:x|\+)*)$/.exec(text) ?? [];
  if (kind === undefined || (kind === "r" && rest.includes("x"))) {
    const error = new TypeError(`The argument 'flags' is invalid. Received '${given}'`);
    error.code = "ERR_INVALID_ARG_VALUE";
    throw error;
  }
  return {
    read: kind === "r" || rest.includes("+"),
    write: kind !== "r" || rest.includes("+"),
    append: kind === "a",
    create: kind !== "r",
    truncate: kind === "w",
    exclusive: rest.includes("x"),
  };
}

export const constants = {
  COPYFILE_EXCL: 1,
  COPYFILE_FICLONE: 2,
  COPYFILE_FICLONE_FORCE: 4,
  F_OK: 0,
  O_APPEND: 0o2000,
  O_CREAT: 0o100,
  O_DIRECTORY: 0o200000,
  O_EXCL: 0o200,
  O_NOFOLLOW: 0o400000,
  O_RDONLY: 0,
  O_RDWR: 2,
  O_SYNC: 0o4010000,
  O_TRUNC: 0o1000,
  O_WRONLY: 1,
  R_OK: 4,
  S_IFDIR: 0o040000,
  S_IFLNK: 0o120000,
  S_IFMT: TYPE,
  S_IFREG: 0o100000,
  S_IRUSR: 0o400,
  S_IWUSR: 0o200,
  S_IXUSR: 0o100,
  UV_FS_COPYFILE_EXCL: 1,
  UV_FS_COPYFILE_FICLONE: 2,
  UV_FS_COPYFILE_FICLONE_FORCE: 4,
  W_OK: 2,
  X_OK: 1,
};
