//! The launcher: a small process of one thread that makes workers and reaps them.
//!
//! A fork of the supervisor would copy its secrets and stand still on locks that its other threads hold.
//! The launcher is the same program started again with an empty environment; it never starts the engine,
//! so a clone of it is small, quick to make, and shares the program's pages.
//!
//! `client` is the supervisor's side, `server` the launcher's own loop, `message` what they say.

mod client;
mod jail_thread;
pub(crate) mod message;
mod process;
mod server;

pub use client::{Launcher, Worker, layers};
pub use server::run_if_launcher;
