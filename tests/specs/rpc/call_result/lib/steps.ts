import { tax } from "./tax.ts";
export const steps = [tax];
