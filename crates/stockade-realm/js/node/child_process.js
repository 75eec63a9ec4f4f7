import { missing } from "internal:errors";

const why = "a guest starts no processes";
export const exec = missing("exec", why);
export const execFile = missing("execFile", why);
export const execFileSync = missing("execFileSync", why);
export const execSync = missing("execSync", why);
export const fork = missing("fork", why);
export const spawn = missing("spawn", why);
export const spawnSync = missing("spawnSync", why);
export default { exec, execFile, execFileSync, execSync, fork, spawn, spawnSync };
