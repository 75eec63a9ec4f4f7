//! The trusted host isolate of `stockade run`: it runs the user's script with Deno's APIs and
//! `V8Sandbox`.
//!
//! Invariants:
//! 1. No type of the engine or of Deno's crates is in this crate's public interface.
//! 2. Whatever ends the run (its end, `Deno.exit`, an uncaught error, Ctrl-C), every isolate it
//!    started is ended and the terminal has the mode it had before.
//!
//! Deliberately absent: loading code from the network. Scripts are local files.

mod error;
mod events;
mod heap;
mod inspect;
mod interrupt;
mod modules;
mod options;
mod realm;
mod report;
mod run;
mod snapshot;

pub use error::HostError;
pub use inspect::{InspectOptions, InspectStart};
pub use options::HostOptions;
pub use run::{block_on, run};
