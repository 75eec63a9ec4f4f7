// `Deno.watchFs`: an async iterable of file system events.

import { core } from "ext:core/mod.js";
import { op_host_watch_next, op_host_watch_open } from "ext:core/ops";

class FsWatcher {
  #rid;
  #pending;
  #referenced = true;

  constructor(paths, { recursive = true, ignore = [] } = {}) {
    this.#rid = op_host_watch_open(
      Array.isArray(paths) ? paths.map(String) : [String(paths)],
      Boolean(recursive),
      Array.isArray(ignore) ? ignore.map(String) : [String(ignore)],
    );
  }

  async next() {
    if (this.#rid === null) return { value: undefined, done: true };
    this.#pending = op_host_watch_next(this.#rid);
    if (!this.#referenced) core.unrefOpPromise(this.#pending);
    const value = await this.#pending;
    if (value === null) return { value: undefined, done: true };
    return { value, done: false };
  }

  async return(value) {
    this.close();
    return { value, done: true };
  }

  close() {
    if (this.#rid === null) return;
    core.tryClose(this.#rid);
    this.#rid = null;
  }

  ref() {
    this.#referenced = true;
    if (this.#pending) core.refOpPromise(this.#pending);
  }

  unref() {
    this.#referenced = false;
    if (this.#pending) core.unrefOpPromise(this.#pending);
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  [Symbol.dispose]() {
    this.close();
  }
}

export function watchFs(paths, options) {
  return new FsWatcher(paths, options);
}
