// Grants that are wrong are refused with their place, and no isolate is left.

const sandbox = new V8Sandbox();
const wrong = [
  { A: {} },
  { A: { ftp: {} } },
  { A: { dns: { names: ["example.com"] }, files: { path: "." } } },
  { A: { dns: { names: ["example.com"], limits: { rate: 0 } } } },
  { A: { files: { path: "./none" } } },
  { "a-b": { dns: { names: ["example.com"] } } },
  [],
];
for (const grants of wrong) {
  try {
    await sandbox.createIsolate({ grants });
    console.log("created");
  } catch (error) {
    console.log(error.name, error.message);
  }
}
try {
  await sandbox.createIsolate({ env: { A: 1 }, grants: { A: { dns: { names: ["example.com"] } } } });
} catch (error) {
  console.log(error.name, error.message);
}
console.log(sandbox.isolateCount());
