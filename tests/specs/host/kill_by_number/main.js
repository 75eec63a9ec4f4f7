// Signals by number; 0 asks whether there is such a process.
const reported = (f) => {
  try {
    return f() ?? "sent";
  } catch (error) {
    return `${error.name}: ${error.message}`;
  }
};
console.log(reported(() => Deno.kill(Deno.pid, 0)));
console.log(reported(() => Deno.kill(2 ** 31 - 1, 0)));
console.log(reported(() => Deno.kill(Deno.pid, 999)));
console.log(reported(() => Deno.kill(Deno.pid, -1)));
console.log(reported(() => Deno.kill(Deno.pid, "SIGNONE")));
const { promise, resolve } = Promise.withResolvers();
Deno.addSignalListener("SIGUSR1", resolve);
console.log(reported(() => Deno.kill(Deno.pid, 10)));
await promise;
console.log("received");
Deno.removeSignalListener("SIGUSR1", resolve);
