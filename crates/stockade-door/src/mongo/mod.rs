//! The door to MongoDB: OP_MSG, and OP_QUERY for the first `hello`.
//!
//! 1. `connect`: the supervisor logs in with SCRAM-SHA-256, and checks the roles of its user.
//! 2. `session`: one command at a time. `hello` is answered here as by a single server without authentication, so drivers
//!    neither log in, nor look for other servers, nor use sessions of the server and transactions.
//! 3. `rules`: each command is checked by its name, its database and every key of its documents at any depth, and gets
//!    a `maxTimeMS` and a size of its batches.
//! 4. `cursors`: a guest goes on with its own cursors only. They are killed when its last session ends.
//!
//! `bson` walks through documents: nothing of them is changed except named fields of a command and of a reply.

mod bson;
mod connect;
mod cursors;
mod door;
mod frame;
mod rules;
mod scram;
mod server;
mod session;
mod shared;

pub use door::Door;
pub use rules::Commands;
pub use server::Server;

/// Reads any bytes, for the fuzzer.
pub(crate) fn parse(bytes: &[u8]) {
    if let Ok(Some(message)) = frame::Message::read(bytes) {
        let commands = Commands::new(&[], &[]);
        let _ = rules::check(&message, &commands, "shop");
    }
    let _ = frame::reply(bytes);
}
