// What one isolate leaves behind, no later one finds: warm ones, those of a group, those that take its place.
const sandbox = new V8Sandbox({ warm: 2 });
const mark = `globalThis.marked = (globalThis.marked ?? 0) + 1;
  Object.prototype.planted = "p"; Array.prototype.push = () => "q"; JSON.stringify = () => "r";
  crypto.constructor.prototype.planted = 1; NETWORK.marked = 1;`;
const look = `[globalThis.marked, ({}).planted, [].push(1), JSON.stringify(1), crypto.planted, NETWORK.marked].join()`;
for (let i = 0; i < 6; i++) {
  const guest = await sandbox.createIsolate();
  const found = await guest.evaluate(look);
  if (found !== ",,1,1,,") console.log("found", found);
  guest.execute(`try { ${mark} } catch {}`);
  await guest.evaluate("0");
  guest.destroy();
}
console.log("looked");
sandbox.shutdown();
