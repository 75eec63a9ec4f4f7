//! Granted folders, used and attacked. The folders are real ones.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod changes;
mod setting;
mod watch;
mod whole;
