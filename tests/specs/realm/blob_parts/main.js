// A Blob holds its bytes outside of the heap, by an id that a guest can find. It opens nothing in
// another isolate.
const sandbox = new V8Sandbox();
const [owner, thief] = [await sandbox.createIsolate(), await sandbox.createIsolate()];
const part = `(blob) => blob[Object.getOwnPropertySymbols(blob).find((s) => String(s) === "Symbol(Parts)")][0]`;
const id = await owner.evaluate(`globalThis.secret = new Blob(["secret"]); (${part})(secret)._id`);
console.log("has an id:", typeof id, id.length);
console.log("owner:", await owner.evaluate("secret.text()"));
console.log("thief:", await thief.evaluate(`(async () => {
  const blob = new Blob(["mine!!"]);
  (${part})(blob)._id = ${JSON.stringify(id)};
  return await blob.text();
})()`).catch((error) => error.name));
console.log("harmless:", await thief.evaluate(`new Blob(["mine!!"]).text()`));
sandbox.shutdown();
