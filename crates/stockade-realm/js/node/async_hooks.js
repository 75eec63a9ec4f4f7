const hooks = globalThis[Symbol.for('node:async_hooks')];
export const { AsyncLocalStorage, AsyncResource } = hooks;
export default hooks;
