import { secret } from "../secret.ts";
export const f = () => secret;
