// The levels of isolation as columns: Stockade's adapter with the options of a level.

import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";

import { childrenOf, cgroupsOf, descriptorsOf, memoryOf, memoryOfAll, nameOf, ranNs, treeOf } from "../processes.js";
import { adapter, stockade, versionOf } from "../programs.js";
import { runTask } from "../task.js";

const MB = 1e6;

export const levels = [
  { id: "thread", label: "thread", options: { isolation: "thread" } },
  { id: "process", label: "process", options: { isolation: "process" } },
  { id: "container", label: "container", options: { isolation: "container" } },
  { id: "strict", label: "container, wx strict", options: { isolation: "container", wx: "strict" } },
];

/** The launcher below a host process, and its workers, without the templates that they are copied from. At level thread
 * there is none. */
function workersOf(host) {
  const launcher = childrenOf(host).find((pid) => nameOf(pid) === "stockade-launcher");
  const ofLauncher = launcher === undefined ? [] : childrenOf(launcher);
  return { launcher, workers: ofLauncher.filter((pid) => nameOf(pid) !== "stockade-template") };
}

/** What is read of the host and all below it at a mark. */
function look(host, mark) {
  const all = treeOf(host);
  // First and alone: reading memory takes the others' time.
  if (mark.startsWith("idle")) return { ran: ranNs(all), at: performance.now() };
  const { launcher, workers } = workersOf(host);
  return {
    host: memoryOf(host),
    launcher: launcher === undefined ? undefined : memoryOf(launcher),
    workers: { ...memoryOfAll(workers), count: workers.length },
    all: memoryOfAll(all),
    processes: all.length,
    descriptors: descriptorsOf(host) + (launcher === undefined ? 0 : descriptorsOf(launcher)),
    cgroups: cgroupsOf(host),
  };
}

/** Memory of one idle isolate: of its worker, or at level thread what the process grew by. */
function memoryFigures({ before, after }, isolates) {
  if (after.all.proportional === 0) throw new Error("the kernel does not show this user the workers' memory; run as root");
  const { workers, host, launcher } = after;
  if (launcher === undefined) {
    const grown = (key) => (host[key] - before.host[key]) / isolates / MB;
    return { private_mb: grown("private"), pss_mb: grown("proportional"), resident_mb: grown("resident") };
  }
  const each = (key) => workers[key] / workers.count / MB;
  return {
    private_mb: each("private"),
    pss_mb: each("proportional"),
    resident_mb: each("resident"),
    shared_percent: (1 - workers.private / workers.resident) * 100,
    host_mb: (host.private - before.host.private) / isolates / MB,
    launcher_mb: launcher.private / MB,
    launcher_resident_mb: launcher.resident / MB,
  };
}

function figuresOf(task, { isolates, alive, ...found }, marks) {
  switch (task.work) {
    case "create":
      if (!task.suffix) return found;
      return Object.fromEntries(Object.entries(found).map(([key, value]) => [`${key}_${task.suffix}`, value]));
    case "memory":
      return memoryFigures(marks, isolates);
    case "many":
      return {
        ...found,
        many_isolates: isolates,
        many_pss_mb: (marks.after.all.proportional - marks.before.all.proportional) / MB,
        many_idle_percent: ((marks.idled.ran - marks.idle.ran) / 1e6 / (marks.idled.at - marks.idle.at)) * 100,
      };
    case "churn":
      return {
        ...found,
        churn_descriptors: marks.after.descriptors - marks.before.descriptors,
        churn_processes: marks.after.processes - marks.before.processes,
        churn_cgroups: marks.after.cgroups - marks.before.cgroups,
        churn_kb: (marks.after.all.private - marks.before.all.private) / 1e3 / isolates,
      };
    default:
      return found;
  }
}

const commandOf = ({ options }, task) => [stockade, "run", adapter("stockade"), "--", JSON.stringify({ ...task, level: options })];

/** Why this machine or build cannot have the level. */
function missing(level) {
  if (!existsSync(stockade)) return "stockade is not built";
  const [program, ...args] = commandOf(level, { work: "create", count: 1 });
  const { status, stderr } = spawnSync(program, args, { encoding: "utf8" });
  return status === 0 ? undefined : stderr.trim().split("\n")[0];
}

function column(level) {
  const lacks = missing(level);
  return {
    ...level,
    ours: true,
    missing: lacks,
    version: lacks === undefined ? versionOf(stockade) : undefined,
    run: async (task) => {
      const { result, marks } = await runTask(commandOf(level, task), look);
      return figuresOf(task, result, marks);
    },
  };
}

export const levelColumns = () => levels.map(column);
