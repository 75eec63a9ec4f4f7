// Files that are open: a path, what was allowed when it was opened, and a position.
import { Buffer } from "node:buffer";
import EventEmitter from "node:events";
import {
  ask,
  contentOf,
  decoded,
  encodingOf,
  flagsOf,
  fsError,
  invalid,
  locate,
  readPart,
  readWhole,
  stat,
  writable,
} from "internal:files";

// By number, as the functions with callbacks name them. 0 to 2 are the standard streams of others.
const open = new Map();
let next = 3;

export function byNumber(fd, syscall) {
  const handle = open.get(fd);
  if (handle === undefined) throw fsError("EBADF", syscall);
  return handle;
}

function bytesOf(buffer) {
  if (!ArrayBuffer.isView(buffer)) throw invalid("buffer", "an instance of Buffer, TypedArray, or DataView", buffer);
  return new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength);
}

function range(bytes, offset, length) {
  const from = Number(offset ?? 0);
  const size = Number(length ?? bytes.length - from);
  if (!(from >= 0) || !(size >= 0) || from + size > bytes.length) {
    const error = new RangeError(`The value of "length" is out of range. It must be >= 0 && <= ${bytes.length - from}.`);
    error.code = "ERR_OUT_OF_RANGE";
    throw error;
  }
  return bytes.subarray(from, from + size);
}

export class FileHandle extends EventEmitter {
  #place;
  #flags;
  #position = 0;
  // Calls with the position of the file itself have their order.
  #last = Promise.resolve();

  constructor(place, flags) {
    super();
    this.#place = place;
    this.#flags = flags;
    this.fd = next++;
    open.set(this.fd, this);
  }

  #check(syscall, may) {
    if (this.fd === -1) throw fsError("EBADF", syscall);
    if (may !== undefined && !this.#flags[may]) throw fsError("EBADF", syscall);
    return this.#place;
  }

  #inOrder(work) {
    const done = this.#last.then(work);
    this.#last = done.catch(() => {});
    return done;
  }

  get path() {
    return this.#place.text;
  }

  async read(buffer, offset, length, position) {
    if (buffer === undefined || (!ArrayBuffer.isView(buffer) && typeof buffer === "object")) {
      ({ buffer = Buffer.alloc(16384), offset, length, position } = buffer ?? {});
    } else if (typeof offset === "object" && offset !== null) {
      ({ offset, length, position } = offset);
    }
    const place = this.#check("read", "read");
    const target = range(bytesOf(buffer), offset, length);
    const at = typeof position === "bigint" ? Number(position) : position;
    const read = async (from) => {
      const part = await readPart(place, from, target.length);
      target.set(part);
      return part.length;
    };
    if (typeof at === "number" && at >= 0) return { bytesRead: await read(at), buffer };
    return this.#inOrder(async () => {
      const bytesRead = await read(this.#position);
      this.#position += bytesRead;
      return { bytesRead, buffer };
    });
  }

  async readv(buffers, position) {
    let bytesRead = 0;
    for (const buffer of buffers) {
      const at = typeof position === "number" ? position + bytesRead : null;
      const read = await this.read(buffer, 0, buffer.byteLength, at);
      bytesRead += read.bytesRead;
      if (read.bytesRead < buffer.byteLength) break;
    }
    return { bytesRead, buffers };
  }

  async write(data, offset, length, position) {
    let bytes;
    if (typeof data === "string") {
      // write(string, position, encoding)
      position = offset;
      bytes = contentOf(data, length);
    } else {
      if (typeof offset === "object" && offset !== null) ({ offset, length, position } = offset);
      bytes = range(bytesOf(data), offset, length);
    }
    const place = this.#check("write", "write");
    const at = typeof position === "bigint" ? Number(position) : position;
    const bytesWritten = bytes.byteLength;
    if (bytesWritten > 0) {
      if (this.#flags.append) await ask(place, "write", (folder, path) => folder.append(path, bytes));
      else if (typeof at === "number") await this.#writeAt(bytes, at);
      else {
        await this.#inOrder(async () => {
          await this.#writeAt(bytes, this.#position);
          this.#position += bytesWritten;
        });
      }
    }
    return { bytesWritten, buffer: data };
  }

  #writeAt(bytes, offset) {
    return ask(this.#place, "write", (folder, path) => folder.write(path, bytes, { offset }));
  }

  async writev(buffers, position) {
    let bytesWritten = 0;
    for (const buffer of buffers) {
      const at = typeof position === "number" ? position + bytesWritten : null;
      bytesWritten += (await this.write(buffer, 0, buffer.byteLength, at)).bytesWritten;
    }
    return { bytesWritten, buffers };
  }

  async readFile(options) {
    const encoding = encodingOf(options);
    const place = this.#check("read", "read");
    const bytes = await this.#inOrder(async () => {
      const found = await readWhole(place, "read", this.#position);
      this.#position += found.length;
      return found;
    });
    return decoded(bytes, encoding);
  }

  async writeFile(data, options) {
    const bytes = contentOf(data, encodingOf(options));
    if (!(bytes instanceof ReadableStream)) {
      await this.write(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
      return;
    }
    for await (const part of bytes) await this.write(part);
  }

  appendFile(data, options) {
    return this.writeFile(data, options);
  }

  async truncate(length = 0) {
    const place = this.#check("ftruncate", "write");
    await ask(place, "ftruncate", (folder, path) => folder.truncate(path, Math.max(0, Number(length))));
  }

  async stat(options) {
    return stat(this.#check("fstat").text, options, "fstat");
  }

  // What was written is on the disk when a write is done.
  async sync() {
    this.#check("fsync");
  }

  async datasync() {
    this.#check("fdatasync");
  }

  async chmod() {
    throw fsError("EPERM", "fchmod", this.#check("fchmod").text);
  }

  async chown() {
    throw fsError("EPERM", "fchown", this.#check("fchown").text);
  }

  async utimes() {
    throw fsError("EPERM", "futime", this.#check("futime").text);
  }

  createReadStream(options) {
    return streams.createReadStream(null, { ...options, fd: this });
  }

  createWriteStream(options) {
    return streams.createWriteStream(null, { ...options, fd: this });
  }

  readableWebStream() {
    const handle = this;
    return new ReadableStream({
      async pull(controller) {
        const { bytesRead, buffer } = await handle.read();
        if (bytesRead === 0) controller.close();
        else controller.enqueue(new Uint8Array(buffer.buffer, buffer.byteOffset, bytesRead));
      },
    });
  }

  async *readLines(options) {
    let rest = "";
    for await (const part of this.createReadStream({ encoding: "utf8", autoClose: false, ...options })) {
      const lines = (rest + part).split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop();
      yield* lines;
    }
    if (rest !== "") yield rest;
  }

  async close() {
    if (this.fd === -1) return;
    open.delete(this.fd);
    this.fd = -1;
    await this.#last;
    this.emit("close");
  }

  [Symbol.asyncDispose]() {
    return this.close();
  }
}

// Set by the module of the streams, which needs this one.
const streams = {};
export const provide = (given) => Object.assign(streams, given);

// Opens a file by what the flags say of it.
export async function openFile(path, flags = "r") {
  const allowed = flagsOf(flags, "r");
  const changes = allowed.write || allowed.create || allowed.truncate;
  const place = changes ? writable(path, "open") : locate(path, "open");
  if (place.folder === undefined) return new FileHandle(place, { read: false, write: false });
  const make = (createNew) =>
    ask(place, "open", (folder, inside) => folder.append(inside, new Uint8Array(0), { createNew }));
  if (allowed.create && allowed.exclusive) {
    await parentOf(place);
    await make(true);
    return new FileHandle(place, allowed);
  }
  const info = await ask(place, "open", (folder, inside) => folder.stat(inside));
  if (info === null) {
    if (!allowed.create) throw fsError("ENOENT", "open", place.text);
    await parentOf(place);
    await make(false);
  } else if (info.kind === "folder") {
    if (changes) throw fsError("EISDIR", "open", place.text);
  } else if (allowed.truncate && info.size > 0) {
    await ask(place, "open", (folder, inside) => folder.truncate(inside, 0));
  } else if (changes) {
    // Whether it may be written is known now, and not with the first write.
    await ask(place, "open", (folder, inside) => folder.append(inside, new Uint8Array(0)));
  }
  return new FileHandle(place, allowed);
}

// Node makes no folders on the way to a file; a grant would.
export async function parentOf(place, syscall = "open", dest = undefined) {
  const at = place.path.lastIndexOf("/");
  if (at === -1) return;
  const info = await ask(place, syscall, (folder, path) => folder.stat(path.slice(0, at)), dest);
  if (info === null) throw fsError("ENOENT", syscall, place.text, dest);
  if (info.kind !== "folder") throw fsError("ENOTDIR", syscall, place.text, dest);
}
