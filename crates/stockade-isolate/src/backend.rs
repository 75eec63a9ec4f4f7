//! Starts isolates on threads, and keeps some ready.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use parking_lot::Mutex;
use stockade_inspector::Inspector;
use stockade_limits::IsolateOptions;
use stockade_supervisor::{GuestContext, IsolationBackend, NewIsolate, StartError};

use crate::initialize::initialize;
use crate::thread_runtime::{STACK, ThreadRuntime};

/// How long after a start an isolate is made in the place of the one that was ready: the one that was started goes
/// first.
const REFILL_AFTER: Duration = Duration::from_millis(5);

/// Isolation level `thread`: an isolate on a thread of this process.
pub struct ThreadBackend {
    ready: Arc<Mutex<Vec<Ready>>>,
    inspector: Option<Inspector>,
}

/// A thread that waits with a runtime.
struct Ready {
    /// The memory limit it was made with.
    memory: Option<u64>,
    guest: Sender<GuestContext>,
}

impl ThreadBackend {
    /// Starts nothing yet. V8 is set up with the first isolate if [`initialize`](crate::initialize) was
    /// not called before, which it should be.
    #[must_use]
    pub fn new() -> Self {
        Self {
            ready: Arc::default(),
            inspector: None,
        }
    }

    /// As [`ThreadBackend::new`]; debuggers may connect to every isolate.
    #[must_use]
    pub fn with_inspector(inspector: Inspector) -> Self {
        Self {
            inspector: Some(inspector),
            ..Self::new()
        }
    }

    fn take_ready(&self, memory: Option<u64>) -> Option<Sender<GuestContext>> {
        let mut ready = self.ready.lock();
        let index = ready.iter().position(|ready| ready.memory == memory)?;
        Some(ready.swap_remove(index).guest)
    }
}

impl Default for ThreadBackend {
    fn default() -> Self {
        Self::new()
    }
}

impl IsolationBackend for ThreadBackend {
    fn start(&self, isolate: NewIsolate) -> Result<(), StartError> {
        initialize();
        let mut guest = isolate.into_guest();
        let memory = guest.options().limits.memory;
        while let Some(sender) = self.take_ready(memory) {
            match sender.send(guest) {
                Ok(()) => return Ok(()),
                // That thread is gone: try another.
                Err(back) => guest = back.0,
            }
        }
        let (sender, receiver) = channel();
        spawn(memory, self.inspector.clone(), receiver, Duration::ZERO)?;
        // The thread takes the guest when its runtime is made; if it ends before, the guest is dropped
        // with the channel and the isolate with it.
        let _ = sender.send(guest);
        Ok(())
    }

    fn warm_up(&self, options: &Arc<IsolateOptions>, count: usize) {
        let memory = options.limits.memory;
        let mut ready = self.ready.lock();
        let have = ready.iter().filter(|ready| ready.memory == memory).count();
        for _ in have..count {
            let (guest, receiver) = channel();
            match spawn(memory, self.inspector.clone(), receiver, REFILL_AFTER) {
                Ok(()) => ready.push(Ready { memory, guest }),
                Err(error) => return tracing::debug!("no isolate kept ready: {error}"),
            }
        }
    }
}

fn spawn(
    memory: Option<u64>,
    inspector: Option<Inspector>,
    guest: Receiver<GuestContext>,
    after: Duration,
) -> Result<(), StartError> {
    std::thread::Builder::new()
        .name("isolate".to_owned())
        .stack_size(STACK)
        .spawn(move || main(memory, inspector, &guest, after))
        .map(drop)
        .map_err(|error| StartError {
            what: format!("cannot start a thread for the isolate: {error}"),
            checked: "pthread_create(3)".to_owned(),
            fix: "destroy isolates, or raise the limit on threads (ulimit -u, pids.max)".to_owned(),
        })
}

/// The life of an isolate's thread. It begins with its work when there is a guest, and `after` this time at the latest.
fn main(
    memory: Option<u64>,
    inspector: Option<Inspector>,
    guests: &Receiver<GuestContext>,
    after: Duration,
) {
    let early = match guests.recv_timeout(after) {
        Ok(guest) => Some(guest),
        Err(RecvTimeoutError::Timeout) => None,
        Err(RecvTimeoutError::Disconnected) => return,
    };
    let place = match ThreadRuntime::new() {
        Ok(place) => place,
        Err(error) => {
            return fail(
                early,
                guests,
                format!("cannot start an event loop: {error}"),
            );
        }
    };
    let mut realm = match place.make_realm(memory, inspector.is_some()) {
        Ok(realm) => realm,
        Err(error) => return fail(early, guests, format!("cannot make a V8 isolate: {error}")),
    };
    if early.is_none() && !after.is_zero() {
        realm.rehearse();
    }
    let Some(guest) = early.or_else(|| guests.recv().ok()) else {
        return;
    };
    let guest = place.run(realm, guest, inspector);
    // Waits for blocking work that cannot be stopped; until then the isolate is not quite gone.
    drop(place);
    drop(guest);
}

fn fail(early: Option<GuestContext>, guests: &Receiver<GuestContext>, what: String) {
    if let Some(guest) = early.or_else(|| guests.recv().ok()) {
        guest.started(Err(StartError {
            what,
            checked: "memory and the startup snapshot".to_owned(),
            fix: "free memory, or raise memoryLimitMb".to_owned(),
        }));
    }
}
