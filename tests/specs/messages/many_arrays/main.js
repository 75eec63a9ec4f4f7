// As many byte arrays as one message may hold, empty ones and others, deep in data or not, in both directions.
const sandbox = new V8Sandbox({ cpuLimitMs: 0, wallLimitMs: 0 });
const guest = await sandbox.createIsolate();
const arrays = Array.from({ length: 16_384 }, (_, i) => new Uint8Array(i % 100).fill(i));
guest.execute(`
  globalThis.back = (arrays) => arrays;
  globalThis.deep = (depth) => {
    let data = new Uint8Array([7]);
    for (let i = 0; i < depth; i++) data = i % 2 ? [data] : { data };
    return data;
  };
`);
const same = (a, b) => a.length === b.length && a.every((byte, i) => byte === b[i]);
const back = await guest.call("back", arrays);
console.log(back.length, back.every((array, i) => array instanceof Uint8Array && same(array, arrays[i])));
console.log(new Set(back.map((array) => array.buffer)).size);
let data = await guest.call("deep", 500);
while (!(data instanceof Uint8Array)) data = Array.isArray(data) ? data[0] : data.data;
console.log(data);
console.log(await guest.call("back", { "0": new Uint8Array([1]), "__proto__x": [new ArrayBuffer(2)], "\0": "\0b0" }));
sandbox.shutdown();
