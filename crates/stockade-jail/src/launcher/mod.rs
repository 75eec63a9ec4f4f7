//! The launcher: a small process of one thread that makes workers and reaps them.
//!
//! A fork of the supervisor would copy its secrets and stand still on locks that its other threads hold.
//! The launcher is the same program started again with an empty environment; it never starts the engine.
//! A worker is a clone of it, or of a template: a clone of the launcher in which the engine is ready.
//!
//! `client` is the supervisor's side, `server` the launcher's own loop, `template` its templates, `message`
//! what they say.

mod client;
mod jail_thread;
pub(crate) mod message;
mod process;
mod server;
mod template;

pub use client::{Launcher, Worker, layers};
pub use server::run_if_launcher;
pub use template::{Clones, Template};
