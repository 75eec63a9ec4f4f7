// For sites, whose modules may wait at their top level.
import { load } from "./builtin.js";
await load();
