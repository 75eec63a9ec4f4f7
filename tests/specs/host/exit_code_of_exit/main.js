// `Deno.exit` ends at once, after the `unload` event, with its code.
addEventListener("unload", () => console.log("unload"));
setTimeout(() => console.log("never"), 0);
console.log("before");
Deno.exit(7);
console.log("never");
