//! The half inside the worker: does what it is asked to.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use stockade_jail::Inside;

use crate::attacks::attack_at;
use crate::controls::controls;
use crate::other_thread::start_other_thread;
use crate::request::Request;
use crate::sys;
use crate::wx::note_wx;

/// Threads of a worker: the main one, that of [`main`], and one that hostile code has besides.
pub(crate) const THREADS: u32 = 3;

/// Longest request in bytes.
const LONGEST_REQUEST: usize = 1 << 20;

/// What a worker of the role `Attack` runs: seals itself, then tries what it is asked to, until
/// the supervisor closes the socket or a layer ends it.
pub fn main(mut inside: Inside) {
    note_wx(inside.spec().wx);
    let Some(socket) = inside.take_socket() else {
        return;
    };
    if let Err(error) = start_other_thread() {
        inside.fail(&error);
        return;
    }
    // a failure to seal was reported by this function itself
    if inside.seal().is_err() {
        return;
    }
    let mut lines = Lines {
        socket,
        rest: Vec::new(),
    };
    while let Some(line) = lines.next() {
        let Ok(request) = serde_json::from_slice(&line) else {
            return;
        };
        let outcome = match request {
            Request::Attack { index, targets } => {
                attack_at(index).map(|attack| (attack.run)(&targets))
            }
            Request::Control { index } => controls().get(index).map(|control| (control.run)()),
            Request::Call { number, args } => Some(sys::spawn_numbered(number, args)),
            Request::Raw(bytes) => {
                if !lines.send(&bytes) {
                    return;
                }
                continue;
            }
        };
        let Ok(mut answer) = serde_json::to_vec(&outcome) else {
            return;
        };
        answer.push(b'\n');
        if !lines.send(&answer) {
            return;
        }
    }
}

/// Lines on the message socket.
#[derive(Debug)]
struct Lines {
    socket: OwnedFd,
    rest: Vec<u8>,
}

impl Lines {
    /// The next one, without its end; `None` if there are no more.
    fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line = self.rest.drain(..=end).take(end).collect();
                return Some(line);
            }
            let mut buffer = [0_u8; 4096];
            match rustix::io::read(&self.socket, &mut buffer) {
                Ok(0) => return None,
                Ok(count) if self.rest.len() < LONGEST_REQUEST => {
                    self.rest.extend_from_slice(buffer.get(..count)?);
                }
                Err(Errno::INTR) => {}
                Ok(_) | Err(_) => return None,
            }
        }
    }

    /// Whether all bytes went out.
    fn send(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            match rustix::io::write(&self.socket, bytes) {
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
        true
    }
}
