export const tax: number = 2;
