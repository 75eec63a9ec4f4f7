//! Starts isolates on threads, and keeps some ready.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use parking_lot::Mutex;
use stockade_inspector::Inspector;
use stockade_policy::IsolateOptions;
use stockade_supervisor::{Seat, StartError, Wall};

use crate::initialize::initialize;
use crate::workplace::{STACK, Workplace};

/// Isolation level `thread`: an isolate on a thread of this process.
pub struct ThreadWall {
    ready: Arc<Mutex<Vec<Ready>>>,
    inspector: Option<Inspector>,
}

/// A thread that waits with a runtime.
struct Ready {
    /// The memory limit it was made with.
    memory: Option<u64>,
    seat: Sender<Seat>,
}

impl ThreadWall {
    /// Starts nothing yet. V8 is set up with the first isolate if [`initialize`](crate::initialize) was
    /// not called before, which it should be.
    #[must_use]
    pub fn new() -> Self {
        Self {
            ready: Arc::default(),
            inspector: None,
        }
    }

    /// As [`ThreadWall::new`]; debuggers may connect to every isolate.
    #[must_use]
    pub fn with_inspector(inspector: Inspector) -> Self {
        Self {
            inspector: Some(inspector),
            ..Self::new()
        }
    }

    fn take_ready(&self, memory: Option<u64>) -> Option<Sender<Seat>> {
        let mut ready = self.ready.lock();
        let index = ready.iter().position(|ready| ready.memory == memory)?;
        Some(ready.swap_remove(index).seat)
    }
}

impl Default for ThreadWall {
    fn default() -> Self {
        Self::new()
    }
}

impl Wall for ThreadWall {
    fn start(&self, seat: Seat) -> Result<(), StartError> {
        initialize();
        let memory = seat.options().limits.memory;
        let mut seat = seat;
        while let Some(sender) = self.take_ready(memory) {
            match sender.send(seat) {
                Ok(()) => return Ok(()),
                // That thread is gone: try another.
                Err(back) => seat = back.0,
            }
        }
        let (sender, receiver) = channel();
        spawn(memory, self.inspector.clone(), receiver)?;
        // The thread takes the seat when its runtime is made; if it ends before, the seat is dropped
        // with the channel and the isolate with it.
        let _ = sender.send(seat);
        Ok(())
    }

    fn warm_up(&self, options: &Arc<IsolateOptions>, count: usize) {
        let memory = options.limits.memory;
        let mut ready = self.ready.lock();
        let have = ready.iter().filter(|ready| ready.memory == memory).count();
        for _ in have..count {
            let (seat, receiver) = channel();
            match spawn(memory, self.inspector.clone(), receiver) {
                Ok(()) => ready.push(Ready { memory, seat }),
                Err(error) => return tracing::debug!("no isolate kept ready: {error}"),
            }
        }
    }
}

fn spawn(
    memory: Option<u64>,
    inspector: Option<Inspector>,
    seat: Receiver<Seat>,
) -> Result<(), StartError> {
    std::thread::Builder::new()
        .name("isolate".to_owned())
        .stack_size(STACK)
        .spawn(move || main(memory, inspector, &seat))
        .map(drop)
        .map_err(|error| StartError {
            what: format!("cannot start a thread for the isolate: {error}"),
            checked: "pthread_create(3)".to_owned(),
            fix: "destroy isolates, or raise the limit on threads (ulimit -u, pids.max)".to_owned(),
        })
}

/// The life of an isolate's thread.
fn main(memory: Option<u64>, inspector: Option<Inspector>, seats: &Receiver<Seat>) {
    let place = match Workplace::new() {
        Ok(place) => place,
        Err(error) => return fail(seats, format!("cannot start an event loop: {error}")),
    };
    let realm = match place.make_realm(memory, inspector.is_some()) {
        Ok(realm) => realm,
        Err(error) => return fail(seats, format!("cannot make a V8 isolate: {error}")),
    };
    let Ok(seat) = seats.recv() else { return };
    let seat = place.run(realm, seat, inspector);
    // Waits for blocking work that cannot be stopped; until then the isolate is not quite gone.
    drop(place);
    drop(seat);
}

fn fail(seat: &Receiver<Seat>, what: String) {
    if let Ok(seat) = seat.recv() {
        seat.started(Err(StartError {
            what,
            checked: "memory and the startup snapshot".to_owned(),
            fix: "free memory, or raise memoryLimitMb".to_owned(),
        }));
    }
}
