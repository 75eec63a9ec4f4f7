const { console } = globalThis;
export default console;
export const { assert, clear, count, debug, dir, error, group, groupEnd, info, log, table, time, timeEnd, trace, warn } =
  console;
