// `load`, `beforeunload` (which may ask for more time) and `unload`.
let more = true;
addEventListener("load", () => console.log("load"));
addEventListener("beforeunload", (event) => {
  console.log("beforeunload");
  if (more) {
    more = false;
    event.preventDefault();
    setTimeout(() => console.log("more"), 1);
  }
});
globalThis.onunload = () => console.log("unload");
console.log("script");
