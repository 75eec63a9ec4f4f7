export const f = (...args) => args;
