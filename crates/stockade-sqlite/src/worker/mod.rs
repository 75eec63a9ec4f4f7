//! The half in the worker: SQLite on three open files, one request after the other.

mod engine;
mod policy;

use std::os::unix::net::UnixStream;

use stockade_jail::{EXIT_FAILED, Inside, JailError};

use crate::message::{self, Answer, Request};
use crate::sys::calls;
use engine::Engine;

pub(crate) use policy::MOST_SQL;

/// What a worker of the role [`Database`](stockade_jail::Role::Database) runs: opens the database, seals itself, and
/// answers requests until the supervisor closes the socket.
pub fn main(mut inside: Inside) {
    let Some(socket) = inside.take_socket() else {
        return;
    };
    let mut socket = UnixStream::from(socket);
    if !calls::replace(inside.files()) {
        inside.fail(&JailError {
            layer: "sqlite".to_owned(),
            what: "SQLite's calls of the system cannot be replaced".to_owned(),
            checked: "sqlite3_vfs.xSetSystemCall".to_owned(),
            fix: "build Stockade with the SQLite that it brings".to_owned(),
        });
        stockade_jail::leave(EXIT_FAILED);
    }
    stockade_jail::show("sqlite");
    // Nothing of the file is read before the worker is sealed.
    settle();
    if inside.seal().is_err() {
        stockade_jail::leave(EXIT_FAILED);
    }
    let Ok(Some(Request::Open(settings))) = message::read(&mut socket) else {
        return;
    };
    let mut engine = match Engine::open(&settings) {
        Ok(engine) => engine,
        Err(failed) => {
            let _ = message::write(&mut socket, &failed);
            return;
        }
    };
    let mut ready = message::write(&mut socket, &Answer::Done).is_ok();
    while ready {
        let Ok(Some(request)) = message::read(&mut socket) else {
            return;
        };
        ready = engine.answer(request, &mut |answer| {
            message::write(&mut socket, answer).is_ok()
        });
    }
}

/// Has libraries ask now for what the sealed worker may not ask for: glibc reads its time zone once.
fn settle() {
    if let Ok(connection) = rusqlite::Connection::open_in_memory() {
        let _ = connection.query_row(
            "select datetime(0, 'unixepoch', 'localtime'), random()",
            [],
            |_| Ok(()),
        );
    }
}
