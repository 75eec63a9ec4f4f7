// Bun: Web Workers, all from one blob URL.

import { guestSource, webWorkerGuest, webWorkerPrelude } from "./guest.js";
import { run } from "./work.js";

const source = guestSource(webWorkerPrelude);
const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));

await run(JSON.parse(process.argv[2]), {
  create: () => webWorkerGuest(new Worker(url)),
});
process.exit(0);
