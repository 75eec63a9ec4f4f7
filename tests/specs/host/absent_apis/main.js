// What this runtime does not have is absent, so that scripts can test for it.
const absent = ["Command", "dlopen", "openKv", "cron", "permissions", "bundle", "jupyter", "test", "run"];
console.log(absent.filter((name) => name in Deno));
console.log(["Worker", "process", "Buffer", "require", "localStorage", "caches", "__bootstrap"].filter((name) => name in globalThis));
console.log(Object.keys(Deno).filter((name) => Deno[name] === undefined));
console.log("core" in Deno, "internal" in Deno);
