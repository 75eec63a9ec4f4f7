globalThis.hidden = () => "reached";
export const value = 1;
export const f = () => 1;
