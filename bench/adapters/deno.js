// Deno: Web Workers, each a module from a data URL.

import { guestSource, webWorkerGuest, webWorkerPrelude } from "./guest.js";
import { run } from "./work.js";

const url = `data:text/javascript,${encodeURIComponent(guestSource(webWorkerPrelude))}`;

await run(JSON.parse(Deno.args[0]), {
  create: () => webWorkerGuest(new Worker(url, { type: "module" })),
});
Deno.exit(0);
