// The events `unhandledrejection`, `rejectionhandled` and `error`.
globalThis.onunhandledrejection = (event) => {
  console.log("unhandled", event.reason.message);
  event.preventDefault();
};
addEventListener("error", (event) => {
  console.log("error", event.message);
  event.preventDefault();
});
Promise.reject(new Error("one"));
setTimeout(() => {
  throw new Error("two");
}, 30);
setTimeout(() => console.log("still running"), 60);
reportError(new Error("three"));
