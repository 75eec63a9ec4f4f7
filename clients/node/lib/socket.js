// Whether a socket belongs to a supervisor of this user: another user of the machine may have put one there, and would get
// the code, the files and the tools.

import { lstatSync, realpathSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { StockadeError } from "./errors.js";

/**
 * The path of the socket without symbolic links.
 * @param {string} path
 * @throws {StockadeError} if another user owns the socket, or could replace it
 */
export function checkedSocket(path) {
  const me = process.geteuid?.();
  if (me === undefined) return path; // of a system without users of files
  let real, socket, folder, own;
  try {
    real = realpathSync(path);
    socket = lstatSync(real);
    folder = lstatSync(dirname(real));
    // Root may use a supervisor of another user, which listens in that user's own folder.
    own = me === 0 && real === resolve(path) && isOwn(dirname(real));
  } catch (error) {
    const problem = `no supervisor listens at ${path}: ${error.message}`;
    throw new StockadeError("no_supervisor", problem, { fix: `stockade supervise --socket ${path}`, cause: error });
  }
  const refuse = (why) => {
    const fix = "let a supervisor of your own user listen in a folder that only this user can write to";
    throw new StockadeError("foreign_socket", `the supervisor's socket ${path} is not used: ${why}`, { fix });
  };
  if (!socket.isSocket()) refuse("it is not a socket");
  const trusted = (user) => user === 0 || user === me || (own && user === folder.uid);
  if (!trusted(folder.uid)) refuse(`its folder belongs to the user ${folder.uid}, and this process runs as ${me}`);
  if (folder.mode & 0o022) refuse("others can write to its folder, and could have put it there");
  if (!trusted(socket.uid)) refuse(`it belongs to the user ${socket.uid}, and this process runs as ${me}`);
  return real;
}

/** Whether others cannot write to any folder above this one. Below `/tmp`, anybody may have made a folder of this name first. */
function isOwn(folder) {
  const above = dirname(folder);
  return above === folder || (!(lstatSync(above).mode & 0o022) && isOwn(above));
}
