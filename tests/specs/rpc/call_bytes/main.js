export const f = () => new Uint8Array(3);
