//! `stockade supervise` over its socket and over standard input: runs, sessions, tools, hostile guests and hostile clients.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![cfg(unix)]

mod client;
mod clients;
mod guests;
mod runs;

use client::{Client, Server};

const LEVELS: &[&str] = if cfg!(target_os = "linux") {
    &["thread", "process", "container"]
} else {
    &["thread"]
};
