//! Tries to get out of a locked-down worker, as native code would that has taken V8 over.
//!
//! A worker of the role `Attack` runs [`main`]: it seals itself and then does what it is asked
//! over its message socket, with raw system calls and machine instructions. The supervisor's half,
//! [`Arena`], plants secrets and targets around the worker, has it try one thing after another and
//! judges by what the kernel reports: how the call ended, what was recorded, how the worker ended,
//! and that nobody else noticed. Every attempt has a harmless control which must work.
//!
//! It does not cover what is attacked from JavaScript or by a forged protocol.
#![cfg(target_os = "linux")]

mod arena;
mod attack;
mod attacks;
mod controls;
mod judge;
mod other_thread;
mod outcome;
mod plant;
mod report;
mod request;
mod sys;
mod targets;
mod worker;
mod wx;

pub use arena::{Arena, Sweep};
pub use attack::{Attack, Expect};
pub use attacks::attacks;
pub use controls::{Control, controls};
pub use outcome::Outcome;
pub use plant::plant_secrets;
pub use report::{AttemptResult, Report};
pub use request::Request;
pub use targets::Targets;
pub use worker::main;
