// Numbers of `env` are numbers, as in every message, whatever their size.
const sandbox = new V8Sandbox();
const env = { small: 1, half: 0.5, minus: -(2 ** 53), edge: 2 ** 53 - 1, above: 2 ** 53, huge: 2 ** 63, more: 1e300, list: [2 ** 60] };
const guest = await sandbox.createIsolate({ env });
const seen = await guest.evaluate(`Object.entries(NETWORK.env).map(([name, value]) => [name, typeof (value[0] ?? value), value])`);
for (const [name, type, value] of seen) console.log(name, type, JSON.stringify(value) === JSON.stringify(env[name]));
sandbox.shutdown();
