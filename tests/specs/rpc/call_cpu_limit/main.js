export const f = () => { for (;;); };
