//! The door to MySQL and MariaDB: the client/server protocol, version 10, as both document it.
//!
//! 1. `greeting`: the guest sees the server's version, and capabilities that a door can follow. Its password is
//!    accepted, whatever it is. Attributes of its connection are dropped.
//! 2. `connect`: the supervisor logs in, with `mysql_native_password` or `caching_sha2_password`.
//! 3. `session`: one command at a time passes, and `response` follows the packets of its answer.
//! 4. The connection is used again after `COM_RESET_CONNECTION`.
//! 5. `client`: statements that the supervisor runs for a guest, in a session of the same door.
//!
//! Capabilities that are never agreed on: TLS and compression; `LOCAL INFILE`, with which a server asks a client for a
//! file; `DEPRECATE_EOF`, so that each part of an answer ends with a packet of its own; attributes; and all of
//! MariaDB's own.

mod auth;
mod client;
mod connect;
mod door;
mod greeting;
mod packet;
mod response;
mod session;
mod values;

pub use client::Client;
pub use door::Door;

/// Reads any bytes, for the fuzzer.
pub(crate) fn parse(bytes: &[u8]) {
    drop(greeting::Greeting::parse(bytes));
    drop(greeting::choice(bytes));
    drop(packet::read_error(bytes));
    for answer in [
        response::Answer::Usual,
        response::Answer::Prepared,
        response::Answer::Rows,
        response::Answer::Text,
    ] {
        let mut response = response::Response::to(answer);
        for packet in bytes.chunks(response::LOOK) {
            response.packet(packet.len(), packet);
        }
    }
}
