export const main = () => 256;
