// What the kernel reports about a process and its descendants (proc(5)).

import { readFileSync, readdirSync } from "node:fs";

/** What `read` gives, or `otherwise` when the process ended in between. */
function whileItLives(read, otherwise) {
  try {
    return read();
  } catch (error) {
    if (error.code === "ENOENT" || error.code === "ESRCH") return otherwise;
    throw error;
  }
}

export const threadsOf = (pid) => whileItLives(() => readdirSync(`/proc/${pid}/task`), []);

export function childrenOf(pid) {
  return threadsOf(pid).flatMap((thread) =>
    whileItLives(() => readFileSync(`/proc/${pid}/task/${thread}/children`, "utf8"), "").split(" ").filter(Boolean).map(Number)
  );
}

/** A process and all below it. */
export function treeOf(pid) {
  return [pid, ...childrenOf(pid).flatMap(treeOf)];
}

export const nameOf = (pid) => whileItLives(() => readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0")[0], "");

const kilobytes = (text, name) => Number(text.match(new RegExp(`^${name}:\\s+(\\d+) kB`, "m"))?.[1] ?? 0) * 1024;

/** Resident bytes of a process and all below it. */
export function residentBytes(pid) {
  const status = (pid) => whileItLives(() => readFileSync(`/proc/${pid}/status`, "utf8"), "");
  return treeOf(pid).reduce((sum, pid) => sum + kilobytes(status(pid), "VmRSS"), 0);
}

/**
 * Bytes of a process: resident, its proportional share (a page that three processes map counts a third
 * in each), and what no other process maps. Of a process that may not be dumped only root may know.
 */
export function memoryOf(pid) {
  const text = whileItLives(() => readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"), "");
  return {
    resident: kilobytes(text, "Rss"),
    proportional: kilobytes(text, "Pss"),
    private: kilobytes(text, "Private_Clean") + kilobytes(text, "Private_Dirty"),
  };
}

/** The sum over processes of what `memoryOf` gives. */
export function memoryOfAll(pids) {
  const sum = { resident: 0, proportional: 0, private: 0 };
  for (const pid of pids) {
    for (const [key, bytes] of Object.entries(memoryOf(pid))) sum[key] += bytes;
  }
  return sum;
}

/** Nanoseconds that the threads of these processes have run. */
export function ranNs(pids) {
  const ran = (pid, thread) =>
    Number(whileItLives(() => readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "utf8"), "0").split(" ")[0]);
  return pids.reduce((sum, pid) => sum + threadsOf(pid).reduce((sum, thread) => sum + ran(pid, thread), 0), 0);
}

export const descriptorsOf = (pid) => whileItLives(() => readdirSync(`/proc/${pid}/fd`).length, 0);

/** Directories of cgroups that a program made: those named after it, and all in them. */
export function cgroupsOf(pid) {
  const mine = `stockade-${pid}-`;
  const count = (path, depth, counts) => {
    const entries = whileItLives(() => readdirSync(path, { withFileTypes: true }), []);
    return entries.filter((entry) => entry.isDirectory()).reduce((sum, { name }) => {
      const counted = counts || name.startsWith(mine);
      return sum + (counted ? 1 : 0) + (depth > 0 ? count(`${path}/${name}`, depth - 1, counted) : 0);
    }, 0);
  };
  return count("/sys/fs/cgroup", 8, false);
}
