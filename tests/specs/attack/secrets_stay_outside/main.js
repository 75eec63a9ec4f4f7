// The host's environment, arguments and paths; `env` is what was given and nothing else.
const sandbox = new V8Sandbox({ env: { given: "yes" } });
const guest = await sandbox.createIsolate();
const found = await guest.evaluate(`(() => {
  const texts = [JSON.stringify(NETWORK.env)];
  for (const name of ["process", "Deno", "require", "Bun", "__dirname", "importScripts"]) {
    if (name in globalThis) texts.push(name);
  }
  for (const cause of [() => null.x, () => decodeURIComponent("%"), () => new URL("x"), () => { throw new Error() }]) {
    try { cause() } catch (error) { texts.push(String(error.stack), String(error.message)); }
  }
  const seen = new Set();
  const walk = (value, depth) => {
    if (value === null || !/object|function/.test(typeof value) || seen.has(value) || depth > 6) return;
    seen.add(value);
    for (const key of Reflect.ownKeys(value)) {
      let inner;
      try { inner = value[key]; } catch { continue; }
      if (typeof inner === "string" && inner.length < 10000) texts.push(inner);
      else walk(inner, depth + 1);
    }
  };
  walk(globalThis, 0);
  return texts.filter((text) => /planted-secret|\\/tests\\/specs|\\/home\\/|\\/root\\//.test(text));
})()`);
console.log("found:", found);
console.log("env:", await guest.evaluate("NETWORK.env"), Deno.env.get("PLANTED"), Deno.args);
sandbox.shutdown();
