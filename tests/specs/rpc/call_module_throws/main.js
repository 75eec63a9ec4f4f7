console.log("before");
export const f = () => 1;
throw new TypeError("at the start");
