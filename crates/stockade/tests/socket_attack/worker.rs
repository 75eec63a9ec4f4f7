//! A worker in other hands.

use std::collections::hash_map::RandomState;
use std::fs::File;
use std::hash::{BuildHasher, Hasher};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use stockade::Payload;
use stockade_jail::{EXIT_FAILED, Inside, leave};
use stockade_protocol::FromIsolate;
use stockade_protocol::frame::{FromWorker, Reader, ToWorker, encode};

use crate::attack::Attack;

/// Writes what it likes to the supervisor.
pub(crate) struct Forger {
    socket: Option<File>,
    reader: Reader<ToWorker>,
    /// The isolate that it was ordered to start.
    pub(crate) isolate: u32,
}

/// Seals itself as an honest worker does, and then attacks.
pub(crate) fn main(mut inside: Inside, attack: &Attack) {
    let Some(socket) = inside.take_socket() else {
        leave(EXIT_FAILED)
    };
    let mut forger = Forger {
        socket: Some(File::from(socket)),
        reader: Reader::new(),
        isolate: u32::MAX,
    };
    (attack.before)(&mut forger);
    if inside.seal().is_err() {
        leave(EXIT_FAILED)
    }
    forger.send(FromWorker::Ready);
    if let ToWorker::Start { isolate, .. } = forger.next() {
        forger.isolate = isolate;
    }
    if attack.says_started {
        forger.send(FromWorker::Started {
            isolate: forger.isolate,
            problem: None,
        });
    }
    (attack.run)(&mut forger);
    forger.keep_still()
}

impl Forger {
    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Some(socket) => socket.as_fd(),
            None => leave(EXIT_FAILED),
        }
    }

    pub(crate) fn close(&mut self) {
        self.socket = None;
    }

    /// Bytes as they are. Ends with the host.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        let written = self
            .socket
            .as_ref()
            .map(|mut socket| socket.write_all(bytes));
        if !matches!(written, Some(Ok(()))) {
            leave(0)
        }
    }

    /// A header of this length, and its first bytes.
    pub(crate) fn head(&mut self, length: u32, bytes: &[u8]) {
        self.raw(&[&length.to_le_bytes(), bytes].concat());
    }

    /// A header as it is.
    pub(crate) fn whole_head(&mut self, bytes: &[u8]) {
        self.head(u32::try_from(bytes.len()).unwrap_or(u32::MAX), bytes);
    }

    pub(crate) fn send(&mut self, frame: FromWorker) {
        let bytes = bytes(frame);
        self.raw(&bytes);
    }

    /// A message of its isolate.
    pub(crate) fn say(&mut self, message: FromIsolate) {
        self.send(FromWorker::Message {
            isolate: self.isolate,
            message,
        });
    }

    pub(crate) fn event(&mut self, name: &str, data: Payload) {
        self.say(FromIsolate::Event {
            name: name.to_owned(),
            data,
        });
    }

    /// Says that it is done, for attacks that must not have had any effect.
    pub(crate) fn done(&mut self) {
        self.event("done", Payload::default());
    }

    /// The next thing that the host says. Ends with the host.
    pub(crate) fn next(&mut self) -> ToWorker {
        let next = self
            .socket
            .as_mut()
            .map(|socket| self.reader.read_from(socket));
        match next {
            Some(Ok(Some(frame))) => frame,
            _ => leave(0),
        }
    }

    fn keep_still(&mut self) -> ! {
        loop {
            std::thread::sleep(Duration::from_secs(1));
        }
    }
}

/// What an honest worker would write.
pub(crate) fn bytes(frame: FromWorker) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Vectors take everything.
    let _ = encode(frame).write_to(&mut bytes);
    bytes
}

/// A number that differs from run to run.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
