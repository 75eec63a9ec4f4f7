// Small programs that compute, for a guest to run and time. Each gives a number that depends on all it did.

const program = `
const kernels = {
  nbody(n) {
    const bodies = [];
    for (let i = 0; i < 5; i++) {
      const angle = i * 1.3;
      bodies.push({ x: Math.cos(angle) * (i + 1), y: Math.sin(angle) * (i + 1), z: i * 0.1, vx: 0.1 * i, vy: -0.2, vz: 0, mass: i ? 0.001 : 39 });
    }
    for (let step = 0; step < n; step++) {
      for (let i = 0; i < 5; i++) {
        const a = bodies[i];
        for (let j = i + 1; j < 5; j++) {
          const b = bodies[j];
          const dx = a.x - b.x, dy = a.y - b.y, dz = a.z - b.z;
          const squared = dx * dx + dy * dy + dz * dz + 0.01;
          const pull = 0.001 / (squared * Math.sqrt(squared));
          a.vx -= dx * b.mass * pull; a.vy -= dy * b.mass * pull; a.vz -= dz * b.mass * pull;
          b.vx += dx * a.mass * pull; b.vy += dy * a.mass * pull; b.vz += dz * a.mass * pull;
        }
      }
      for (const body of bodies) { body.x += 0.001 * body.vx; body.y += 0.001 * body.vy; body.z += 0.001 * body.vz; }
    }
    return bodies.reduce((sum, body) => sum + body.x + body.y + body.z, 0);
  },

  json(n) {
    let length = 0;
    const rows = Array.from({ length: 60 }, (_, i) => ({ id: i, name: "row " + i, tags: ["a", "b", String(i)], at: { x: i / 7, ok: i % 2 === 0, none: null } }));
    for (let i = 0; i < n; i++) {
      const text = JSON.stringify(rows);
      const back = JSON.parse(text);
      length += text.length + back[i % 60].id;
    }
    return length;
  },

  regexp(n) {
    const line = '192.168.0.7 - - [10/Oct/2026:13:55:36 +0000] "GET /a/b/c.html?q=1&r=two HTTP/1.1" 200 2326 "https://example.org/start" "Mozilla/5.0"';
    const shape = /^(\\S+) \\S+ \\S+ \\[([^\\]]+)\\] "(\\w+) ([^" ]+) [^"]*" (\\d{3}) (\\d+)/;
    let sum = 0;
    for (let i = 0; i < n; i++) {
      const match = shape.exec(line);
      sum += Number(match[5]) + match[4].split(/[?&]/).length;
      sum += line.replace(/[aeiou]/g, (letter) => letter.toUpperCase()).length;
    }
    return sum;
  },

  strings(n) {
    let hash = 0;
    for (let i = 0; i < n; i++) {
      let text = "";
      for (let j = 0; j < 300; j++) text += j.toString(36) + ",";
      const parts = text.split(",");
      const joined = parts.reverse().join("-");
      for (let j = 0; j < joined.length; j += 3) hash = (hash * 31 + joined.charCodeAt(j)) | 0;
    }
    return hash;
  },

  sort(n) {
    let sum = 0;
    let seed = 7;
    for (let i = 0; i < n; i++) {
      const records = Array.from({ length: 2000 }, () => { seed = (seed * 1103515245 + 12345) & 0x7fffffff; return { key: seed, text: "k" + (seed % 97) }; });
      records.sort((a, b) => a.key - b.key);
      sum += records[i % 2000].key % 1000;
    }
    return sum;
  },

  arrays(n) {
    const size = 48;
    const a = new Float64Array(size * size).map((_, i) => i % 13);
    const b = new Float64Array(size * size).map((_, i) => i % 7);
    const c = new Float64Array(size * size);
    const bytes = new Uint8Array(16384);
    let sum = 0;
    for (let round = 0; round < n; round++) {
      for (let i = 0; i < size; i++) {
        for (let j = 0; j < size; j++) {
          let dot = 0;
          for (let k = 0; k < size; k++) dot += a[i * size + k] * b[k * size + j];
          c[i * size + j] = dot;
        }
      }
      for (let i = 0; i < bytes.length; i++) bytes[i] = bytes[i] * 5 + i + round;
      sum += c[round % c.length] + bytes[round % bytes.length];
    }
    return sum;
  },

  recursion(n) {
    const fib = (n) => (n < 2 ? n : fib(n - 1) + fib(n - 2));
    return fib(n);
  },
};

NETWORK.on("run", ({ kernel, n }) => {
  const began = performance.now();
  const value = kernels[kernel](n);
  NETWORK.send("ran", { ms: performance.now() - began, value });
});
`;

export const kernelSource = program;

/** Kernel -> its argument: about 10 ms of compiled code each. */
export const kernels = { nbody: 180_000, json: 320, regexp: 10_000, strings: 600, sort: 30, arrays: 70, recursion: 29 };
