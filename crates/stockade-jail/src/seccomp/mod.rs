//! System calls (seccomp(2)): an allow-list with rules for arguments.
//!
//! The rules are data, in this crate's folder `seccomp`, in the JSON format of the `seccompiler` crate.
//! `every-worker.json` holds for all, one file for each mode and architecture adds to it, and `database.json` what
//! a worker with open files needs. A section is a
//! filter, and they become one program, what is refused first:
//!
//! - `allow`: what matches is carried out. What does not waits for the supervisor ([`Listener`]), which
//!   records it and kills the worker.
//! - `refuse …`: what matches fails with the error in the name, and nothing is reported: calls that libraries
//!   try and live without.
//!
//! Each rule says in its comment who needs it. Arguments that the kernel takes as `int` are compared as
//! `dword`, for it ignores their upper half; those it takes as `long` as `qword`.
//!
//! Invariants: calls for another architecture kill the process. No rule lets anybody make a descriptor, a
//! thread, a process or a connection, name a file, or signal another process. Under `Wx::Strict` no rule
//! makes memory executable.
//!
//! Not covered: what the vDSO answers without a call (the time).

mod compile;
mod install;
mod notify;
mod rules;
#[cfg(test)]
mod tests;

pub(crate) use compile::{Filters, compile, filters};
pub(crate) use install::{install, self_test};
pub(crate) use notify::Listener;
pub use rules::allowed;

const LAYER: &str = "seccomp";
