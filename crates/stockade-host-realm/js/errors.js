// `Deno.errors`, and the classes and builders by which errors of ops become JavaScript errors.

import { core } from "ext:core/mod.js";

const { DOMException, QuotaExceededError } = core.loadExtScript(
  "ext:deno_web/01_dom_exception.js",
);

function errorClass(name) {
  const classes = {
    [name]: class extends Error {
      constructor(message, options) {
        super(message, options);
        this.name = name;
      }
    },
  };
  return classes[name];
}

// Names of the classes an op's error may carry (`#[class("NotFound")]` in Rust).
const NAMES = [
  "NotFound",
  "PermissionDenied",
  "ConnectionRefused",
  "ConnectionReset",
  "ConnectionAborted",
  "NotConnected",
  "AddrInUse",
  "AddrNotAvailable",
  "BrokenPipe",
  "AlreadyExists",
  "InvalidData",
  "TimedOut",
  "WriteZero",
  "WouldBlock",
  "UnexpectedEof",
  "Http",
  "Busy",
  "NotSupported",
  "FilesystemLoop",
  "IsADirectory",
  "NetworkUnreachable",
  "NotADirectory",
];

// The engine's core brings these three and registers them itself.
export const errors = {
  Interrupted: core.Interrupted,
  BadResource: core.BadResource,
  NotCapable: core.NotCapable,
};

for (const name of NAMES) {
  errors[name] = errorClass(name);
  core.registerErrorClass(name, errors[name]);
}

const DOM_NAMES = [
  "Operation",
  "NotSupported",
  "Network",
  "Abort",
  "InvalidCharacter",
  "Data",
  "InvalidState",
  "Syntax",
  "IndexSize",
  "TypeMismatch",
  "InvalidAccess",
];

for (const name of DOM_NAMES) {
  core.registerErrorBuilder(
    `DOMException${name}Error`,
    (message) => new DOMException(message, `${name}Error`),
  );
}
core.registerErrorBuilder(
  "DOMExceptionQuotaExceededError",
  (message) => new QuotaExceededError(message),
);
