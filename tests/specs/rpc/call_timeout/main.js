export const f = () => new Promise(() => setInterval(() => {}, 10));
