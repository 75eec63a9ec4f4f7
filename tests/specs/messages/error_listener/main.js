// A guest's own listeners see what is thrown at the top of `execute()`, as they see any other error, and may take
// it. What it cannot compile or run for want of room is the host's alone.
const sandbox = new V8Sandbox();
const guest = await sandbox.createIsolate();
guest.onSystem("error", ({ name, message }) => console.log("host:", name, message));
guest.execute(`
  addEventListener("error", (event) => {
    NETWORK.send("seen", [event.error.message, event.message, event.filename, event.lineno, event.colno]);
    if (event.error.message === "taken") event.preventDefault();
  });
`);
guest.on("seen", (seen) => console.log("guest:", ...seen));
guest.execute(`throw new Error("reported")`);
guest.execute(`\n  throw new TypeError("taken")`);
guest.execute(`const typed: number = 1; throw new RangeError("reported, too")`);
guest.execute(`let 1x;`);
// Of an evaluation the error is the reply.
console.log("evaluate:", await guest.evaluate(`throw new Error("reply")`).catch((error) => error.message));
sandbox.shutdown();
