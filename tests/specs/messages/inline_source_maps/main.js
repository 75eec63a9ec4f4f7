// A bundle that brings its source map along: stacks and positions are those of the sources.
const map = "data:application/json;base64,eyJ2ZXJzaW9uIjogMywgInNvdXJjZXMiOiBbIi4uL3NyYy9hcHAudHMiXSwgIm5hbWVzIjogW10sICJtYXBwaW5ncyI6ICJBQUVBIn0=";
const sandbox = new V8Sandbox({ cpuLimitMs: 100, wallLimitMs: 60_000 });
const bundle = `throw new Error("bundled");\n//# sourceMappingURL=${map}\n`;
const own = ({ stack, source, line, column }) => [stack.split("\\n").slice(0, 2).join("|"), source, line, column];
const failed = (guest) => new Promise((resolve) => guest.onSystem("error", (error) => resolve(own(error))));

const module = await sandbox.createIsolate({ modules: { "main.js": bundle } });
console.log("module", await failed(module));

const script = await sandbox.createIsolate();
script.execute(bundle);
console.log("script", await failed(script));
console.log("value", await script.evaluate(bundle).catch((error) => error.stack.split("\\n").slice(0, 2).join("|")));

const endless = await sandbox.createIsolate();
const ended = new Promise((resolve) => endless.onSystem("terminated", resolve));
endless.execute(`for (;;);\n//# sourceMappingURL=${map}`);
console.log("end", (await ended).detail);

// A map that is none changes nothing.
const broken = await sandbox.createIsolate();
broken.execute(`throw new Error("plain");\n//# sourceMappingURL=data:application/json;base64,AAAA`);
console.log("broken", await failed(broken));
sandbox.shutdown();
