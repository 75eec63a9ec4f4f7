import type { SandboxOptions } from "../index.js";

/** What may pass between host and guest without a copy: primitives, functions and what the classes here make. */
export type Transferable = any;

export interface TransferOptions {
  copy?: boolean;
  externalCopy?: boolean;
  reference?: boolean;
  promise?: boolean;
}
export interface RunOptions {
  /** Elapsed time in milliseconds. A script that needs more ends its context. */
  timeout?: number;
}
export interface ScriptOrigin {
  filename?: string;
}
export interface TransferOptionsBidirectional {
  arguments?: TransferOptions;
  result?: TransferOptions;
}

export class Isolate {
  constructor(options?: {
    /** In MB, for each context; at least 8. */
    memoryLimit?: number;
    /** Options of Stockade, such as `level`. */
    stockade?: Omit<SandboxOptions, "memory" | "tools">;
  });
  readonly cpuTime: bigint;
  readonly wallTime: bigint;
  readonly isDisposed: boolean;
  createContext(): Promise<Context>;
  createContextSync(): Context;
  compileScript(code: string, origin?: ScriptOrigin): Promise<Script>;
  compileScriptSync(code: string, origin?: ScriptOrigin): Script;
  dispose(): void;
}

export class Context {
  private constructor();
  readonly global: Reference;
  eval(code: string, options?: RunOptions & ScriptOrigin & TransferOptions): Promise<any>;
  evalIgnored(code: string, options?: RunOptions & ScriptOrigin): void;
  evalSync(code: string, options?: RunOptions & ScriptOrigin & TransferOptions): any;
  evalClosure(code: string, args?: Transferable[], options?: RunOptions & ScriptOrigin & TransferOptionsBidirectional): Promise<any>;
  evalClosureIgnored(code: string, args?: Transferable[], options?: RunOptions & ScriptOrigin & TransferOptionsBidirectional): void;
  evalClosureSync(code: string, args?: Transferable[], options?: RunOptions & ScriptOrigin & TransferOptionsBidirectional): any;
  release(): void;
}

export class Script {
  private constructor();
  run(context: Context, options?: RunOptions & TransferOptions): Promise<any>;
  runIgnored(context: Context, options?: RunOptions): void;
  runSync(context: Context, options?: RunOptions & TransferOptions): any;
  release(): void;
}

export class Reference<T = any> {
  constructor(value: T);
  readonly typeof: string;
  deref(options?: { release?: boolean }): T;
  derefInto(options?: { release?: boolean }): Transferable;
  release(): void;
  copy(): Promise<T>;
  copySync(): T;
  get(property: string | number, options?: TransferOptions): Promise<any>;
  getSync(property: string | number, options?: TransferOptions): any;
  set(property: string | number, value: Transferable, options?: TransferOptions): Promise<void>;
  setIgnored(property: string | number, value: Transferable, options?: TransferOptions): void;
  setSync(property: string | number, value: Transferable, options?: TransferOptions): void;
  delete(property: string | number): Promise<void>;
  deleteIgnored(property: string | number): void;
  deleteSync(property: string | number): void;
  apply(receiver?: Transferable, args?: Transferable[], options?: RunOptions & TransferOptionsBidirectional): Promise<any>;
  applyIgnored(receiver?: Transferable, args?: Transferable[], options?: RunOptions & TransferOptionsBidirectional): void;
  applySync(receiver?: Transferable, args?: Transferable[], options?: RunOptions & TransferOptionsBidirectional): any;
}

export class ExternalCopy<T = any> {
  constructor(value: T);
  copy(options?: { release?: boolean }): T;
  copyInto(options?: { release?: boolean }): Transferable;
  release(): void;
}

/** A function for guests. There it returns a promise, or nothing with `ignored`. */
export class Callback<T extends (...args: any[]) => any = any> {
  constructor(call: T, options?: { ignored?: boolean });
}

declare const ivm: {
  Callback: typeof Callback;
  Context: typeof Context;
  ExternalCopy: typeof ExternalCopy;
  Isolate: typeof Isolate;
  Reference: typeof Reference;
  Script: typeof Script;
};
export default ivm;
