import "internal:globals";
import { clearImmediate, setImmediate } from "internal:immediate";
import * as promises from "node:timers/promises";

export const { clearInterval, clearTimeout, setInterval, setTimeout } = globalThis;
export { clearImmediate, promises, setImmediate };
export default { clearImmediate, clearInterval, clearTimeout, promises, setImmediate, setInterval, setTimeout };
