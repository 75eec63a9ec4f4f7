//! The realm of the trusted host isolate: the `Deno` namespace, the web platform's globals and
//! `V8Sandbox`, and the ops behind them.
//!
//! This crate stands apart from `stockade-host` because the build script of that crate makes the
//! startup snapshot and must see exactly the extensions that the program runs with.
//!
//! Invariants:
//! 1. [`extensions`] gives the same extensions in the same order at build time and at run time.
//! 2. Host scripts are trusted: they may do whatever the user who started them may.
//!
//! Deliberately absent: Node's modules, WebGPU, subprocesses, foreign functions, databases.

mod extension;
mod info;
mod permissions;
mod process;
mod ready;
mod sandbox;
mod terminal;
mod watch;

pub use extension::{RealmOptions, extension_arguments, extensions};
pub use info::RunInfo;
pub use process::InterruptsTaken;
pub use ready::HostFunctions;
pub use sandbox::{
    Account, Arrival, Given, IsolateKey, Receiver, SandboxSetup, Sandboxes, error_json, parse,
};
pub use terminal::restore_terminal;
