const factor: number = 2;
globalThis.twice = (n: number) => n * factor;
