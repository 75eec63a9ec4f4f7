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

/** How a guest talks to its host. */
declare const NETWORK: {
  /** Throws if the host does not take messages as fast as they come. */
  send<T>(event: string, data?: Stockade.Sendable<T>): void;
  /** Rejects with the message of what the host's handler threw. */
  request<R = any, T = unknown>(method: string, data?: Stockade.Sendable<T>): Promise<R>;
  /** Events that came before are handed over, in order. */
  on<T = any>(event: string, handler: (data: T) => void): typeof NETWORK;
  /** Without a handler, all of the event. */
  off<T = any>(event: string, handler?: (data: T) => void): typeof NETWORK;
  /** What the host gave as `env`, deeply frozen. Its functions run in the host and give promises. */
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
   * What the host gives as `env`. Declare what you expect to have it checked:
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

  /** JSON and, beyond it, byte arrays and byte streams; not what JSON cannot hold. */
  type Sendable<T> = T extends bigint | symbol | ((...args: never[]) => unknown) ? never : T;
}
