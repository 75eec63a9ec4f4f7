// Signals: a listener takes the place of the default.
let count = 0;
const seen = Promise.withResolvers();
const onUser = () => {
  count++;
  seen.resolve();
};
Deno.addSignalListener("SIGUSR1", onUser);
Deno.kill(Deno.pid, "SIGUSR1");
await seen.promise;
console.log("SIGUSR1", count);
Deno.removeSignalListener("SIGUSR1", onUser);

const interrupted = Promise.withResolvers();
Deno.addSignalListener("SIGINT", interrupted.resolve);
Deno.kill(Deno.pid, "SIGINT");
await interrupted.promise;
console.log("SIGINT");
Deno.removeSignalListener("SIGINT", interrupted.resolve);
try {
  Deno.addSignalListener("SIGKILL", () => {});
} catch (error) {
  console.log(error.name);
}
