// `navigator`: what the web platform says about the machine.

import { core } from "ext:core/mod.js";
import { op_host_cpus, op_host_language, op_host_user_agent } from "ext:core/ops";

const webidl = core.loadExtScript("ext:deno_webidl/00_webidl.js");
const { createFilteredInspectProxy } = core.loadExtScript("ext:deno_web/01_console.js");
const loadLocks = core.createLazyLoader("ext:deno_web/locks.js");

const READABLE = ["hardwareConcurrency", "userAgent", "language", "languages", "platform"];

export class Navigator {
  constructor() {
    webidl.illegalConstructor();
  }

  get hardwareConcurrency() {
    webidl.assertBranded(this, Navigator.prototype);
    return op_host_cpus();
  }

  get userAgent() {
    webidl.assertBranded(this, Navigator.prototype);
    return op_host_user_agent();
  }

  get language() {
    webidl.assertBranded(this, Navigator.prototype);
    return op_host_language();
  }

  get languages() {
    return [this.language];
  }

  get platform() {
    webidl.assertBranded(this, Navigator.prototype);
    const { os, arch } = core.build;
    return os === "darwin" ? "MacIntel" : `Linux ${arch}`;
  }

  get locks() {
    webidl.assertBranded(this, Navigator.prototype);
    return loadLocks().locks;
  }

  [Symbol.for("Deno.privateCustomInspect")](inspect, options) {
    const proxy = createFilteredInspectProxy({
      object: this,
      evaluate: Object.prototype.isPrototypeOf.call(Navigator.prototype, this),
      keys: READABLE,
    });
    return inspect(proxy, options);
  }
}

for (const name of [...READABLE, "locks"]) {
  Object.defineProperty(Navigator.prototype, name, { enumerable: true });
}

export const navigator = webidl.createBranded(Navigator);
