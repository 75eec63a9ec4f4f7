//! Limits, grants and options of isolates: parsed, checked, and nothing else.
//!
//! Invariants:
//! 1. A [`Limits`] or [`IsolateOptions`] value is always within the ranges its fields document.
//! 2. Checking goes on after the first mistake: one error names them all.
//!
//! Deliberately absent: any I/O, any enforcement. Pure data, so that every other crate may depend on it.

mod limits;
mod options;
mod problem;

pub use limits::{CpuShare, Limits, MIN_MEMORY, MIN_WALL_DEFAULT};
pub use options::{
    ConsoleMode, DEFAULT_TIMER_PRECISION, IsolateOptions, Isolation, MAX_MODULE_BYTES,
    MAX_NAME_LEN, SandboxOptions,
};
pub use problem::{OptionsError, Problem};
