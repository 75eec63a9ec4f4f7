import { greet } from "./greet.ts";
export default { fetch: () => new Response(greet()) };
