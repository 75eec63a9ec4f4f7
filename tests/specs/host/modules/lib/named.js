export const name = "named";
export const where = import.meta.url;
if (import.meta.main) throw new Error("not the main module");
