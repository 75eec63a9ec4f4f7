// Ctrl-C ends a run that does not listen to it, also in the middle of a loop.
console.log("running");
Deno.kill(Deno.pid, "SIGINT");
for (;;);
