/**
 * What guest code sees inside an isolate: `NETWORK` and the web platform, and nothing else.
 *
 *     /// <reference path="./types/worker.d.ts" />
 *
 * Needs `"lib": ["ESNext"]` and `"types": []`: TypeScript's `DOM` and `WebWorker` libraries declare much
 * that a guest does not have.
 */

/// <reference lib="esnext" />
/// <reference path="./web.d.ts" />

// ---- NETWORK ----

/** The guest's connection to its host. */
declare const NETWORK: {
  /** Sends an event to the host. Blocks while the queue to the host is full. */
  send<T>(event: string, data?: Stockade.Sendable<T>): void;
  /** Sends a request to the host. Rejects with the message of an error in the host's handler. */
  request<R = any, T = unknown>(method: string, data?: Stockade.Sendable<T>): Promise<R>;
  /** Calls the handler for each event of the host, including events that arrived before, in order. */
  on<T = any>(event: string, handler: (data: T) => void): typeof NETWORK;
  /** Removes one handler, or all handlers of the event. */
  off<T = any>(event: string, handler?: (data: T) => void): typeof NETWORK;
  /** The host's option `env`, deeply frozen. Its functions run in the host and return promises. */
  readonly env: Stockade.Env;
};

declare namespace Stockade {
  /** A value that JSON can hold. */
  type JsonValue =
    | null
    | boolean
    | number
    | string
    | readonly JsonValue[]
    | { readonly [key: string]: JsonValue | undefined };

  /**
   * The type of `NETWORK.env`. Declare its properties to have their use checked:
   *
   *     declare global {
   *       namespace Stockade {
   *         interface Env { readonly prices: { of(item: string): Promise<number> } }
   *       }
   *     }
   */
  interface Env {
    readonly [key: string]: any;
  }

  /** Data that can be sent: JSON, byte arrays and byte streams. */
  type Sendable<T> = T extends bigint | symbol | ((...args: never[]) => unknown) ? never : T;
}
