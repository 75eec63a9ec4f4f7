//! The half inside the worker: does what it is asked to.

use std::os::fd::OwnedFd;
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;

use rustix::io::Errno;
use stockade_jail::{Inside, JailError, Wx};

use crate::attack::Outcome;
use crate::attacks::attack_at;
use crate::controls::controls;
use crate::request::Request;
use crate::sys;
use crate::targets::Targets;

/// Threads of a worker: the main one, that of [`main`], and one that hostile code has besides.
pub(crate) const THREADS: u32 = 3;

/// Longest request in bytes.
const LONGEST: usize = 1 << 20;

/// Work for the other thread, and where its outcome goes.
type Work = (fn(&Targets) -> Outcome, Targets, SyncSender<Outcome>);

static OTHER: OnceLock<Mutex<SyncSender<Work>>> = OnceLock::new();
static STRICT: OnceLock<bool> = OnceLock::new();

/// What a worker of the role `Attack` runs: seals itself, then tries what it is asked to, until
/// the supervisor closes the socket or a layer ends it.
pub fn main(mut inside: Inside) {
    let _ = STRICT.set(inside.spec().wx == Wx::Strict);
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

/// Whether executable memory is refused here.
pub(crate) fn is_strict() -> bool {
    STRICT.get().copied().unwrap_or_default()
}

/// Tries something on a thread that existed before the worker was sealed.
pub(crate) fn on_other_thread(run: fn(&Targets) -> Outcome, targets: &Targets) -> Outcome {
    let (send, outcome) = mpsc::sync_channel(1);
    start_on_other_thread(run, targets, send);
    outcome
        .recv()
        .unwrap_or(Outcome::Found("the other thread is gone".to_owned()))
}

/// The same without waiting for it.
pub(crate) fn start_on_other_thread(
    run: fn(&Targets) -> Outcome,
    targets: &Targets,
    outcome: SyncSender<Outcome>,
) {
    if let Some(other) = OTHER.get() {
        let other = other.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = other.send((run, targets.clone(), outcome));
    }
}

fn start_other_thread() -> Result<(), JailError> {
    let (send, work) = mpsc::sync_channel::<Work>(1);
    let (ready, is_ready) = mpsc::sync_channel(1);
    let spawned = thread::Builder::new().stack_size(1 << 20).spawn(move || {
        let _ = ready.send(());
        for (run, targets, outcome) in work {
            let _ = outcome.send(run(&targets));
        }
    });
    if let Err(error) = spawned {
        return Err(JailError {
            layer: "threads".to_owned(),
            what: format!("cannot start a second thread in the worker ({error})"),
            checked: "a thread created before the worker is sealed".to_owned(),
            fix: "raise the limit of threads (ulimit -u)".to_owned(),
        });
    }
    // what a thread does on its way up needs more system calls than a sealed worker may make
    let _ = is_ready.recv();
    let _ = OTHER.set(Mutex::new(send));
    Ok(())
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
                Ok(count) if self.rest.len() < LONGEST => {
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
