//! The door to Redis and Valkey: RESP2 and RESP3.
//!
//! 1. `connect`: the supervisor logs in with `AUTH`, and selects the database of the grant.
//! 2. `request`: the guest's commands are arrays of strings. `AUTH` is accepted with any password, the login in `HELLO`
//!    is dropped, and `commands` refuses others by their name.
//! 3. `session`: each command's reply is awaited, so the count of commands whose replies are still to come is bounded.
//! 4. The connection is used again after `RESET`.
//!
//! A refused command reaches the server as one that it does not know, so it also aborts a transaction. Which keys a
//! guest may use is decided by the server's access control list, for the user of the grant.

mod commands;
mod connect;
mod door;
mod reply;
mod request;
mod session;

pub use commands::Commands;
pub use door::Door;

/// Reads any bytes, for the fuzzer.
pub(crate) fn parse(bytes: &[u8]) {
    if let Ok(Some(head)) = request::head(bytes) {
        drop(request::whole(bytes, &head));
    }
    let (mut replies, mut rest) = (reply::Replies::default(), bytes);
    while let reply::Step::Element { line, body } = replies.step(rest) {
        let length = usize::try_from(body)
            .unwrap_or(usize::MAX)
            .saturating_add(line);
        rest = rest.get(length..).unwrap_or_default();
    }
}
