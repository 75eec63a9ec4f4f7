//! Instances with guests that follow a script in place of V8: the same messages, honest or not.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod asks;
mod calls;
mod charges;
mod crons;
mod fresh;
mod granted;
mod guest;
mod hostile;
mod mirrors;
mod observed;
mod pipes;
mod requests;
mod scaling;
mod site;
mod sockets;
mod streams;
mod targets;
