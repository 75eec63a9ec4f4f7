// Half a surrogate pair crosses in data, and is refused where the host needs a name.
const sandbox = new V8Sandbox();
const guest = await sandbox.createIsolate();
guest.onRequest("echo", (data) => data);
console.log(await guest.evaluate(`(async () => {
  const given = { "a\\ud800": ["\\udc00", new Uint8Array([1])] };
  const got = await NETWORK.request("echo", given);
  return [Object.keys(got)[0] === "a\\ud800", got["a\\ud800"][0] === "\\udc00"];
})()`));
console.log(await guest.evaluate(`(async () => {
  const names = [];
  try { NETWORK.send("a\\ud800", 1) } catch (error) { names.push(error.name) }
  try { NETWORK.on("\\udc00", () => {}) } catch (error) { names.push(error.name) }
  try { await NETWORK.request("a\\ud800", 1) } catch (error) { names.push(error.name) }
  return names;
})()`));
sandbox.shutdown();
