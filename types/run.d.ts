/**
 * What code sees that runs for a result (`stockade exec -e`, the clients, `stockade::run`): what all guests see, and `tools`.
 */
/// <reference path="./worker.d.ts" />

/** The functions of the host. Empty where there are none. */
declare const tools: StockadeTools;

/** Declare the tools as its properties to have their use checked. */
interface StockadeTools {
  /** Rejects with an `Error` with the host's message. */
  readonly [name: string]: (input?: any) => Promise<any>;
}
