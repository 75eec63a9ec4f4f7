export const f = () => NETWORK.request("a").catch((error) => error.message);
