// Started by name, a module is what `call` finds its functions in; a default export has the name `default`.
export const then = (resolve) => resolve("not awaited");
export default (...args) => args;
export const nothing = () => {};
