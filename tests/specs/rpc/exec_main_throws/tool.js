export const main = () => { throw new Error("in main"); };
