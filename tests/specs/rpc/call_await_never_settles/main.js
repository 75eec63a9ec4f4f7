export const f = () => 1;
await new Promise(() => {});
