//! An isolate in a worker, as its supervisor knows it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::host::remote::RemoteGuest;

/// Messages and bytes that a worker may have of an isolate that the isolate has not seen.
const UNSEEN_MESSAGES: usize = 4096;
const UNSEEN_BYTES: usize = 1 << 20;

/// Bytes that a worker may hold of an isolate's messages in all, those included that the isolate keeps
/// until it has a handler for them.
const HELD_BYTES: usize = 64 << 20;

/// How long a worker may take to say whether it runs an isolate; an honest one says it at once.
pub(super) const START: Duration = Duration::from_secs(30);

/// What the worker said that no honest worker says.
#[derive(Debug)]
pub(super) struct Misbehaved(pub(super) String);

pub(super) struct WorkerIsolate {
    pub(super) guest: RemoteGuest,
    flow: Mutex<Flow>,
    /// When its end was asked for.
    pub(super) ending: Mutex<Option<Instant>>,
    start_answered: AtomicBool,
    /// Since when its start can be answered.
    starting: Mutex<Option<Instant>>,
}

/// Messages on their way, and those that still have a place in the host's queue.
#[derive(Default)]
struct Flow {
    sent: u64,
    /// Sizes of the messages that the isolate has not seen, in order.
    unseen: VecDeque<usize>,
    unseen_bytes: usize,
    held_messages: usize,
    held_bytes: usize,
}

impl WorkerIsolate {
    pub(super) fn new(guest: RemoteGuest) -> Self {
        Self {
            guest,
            flow: Mutex::default(),
            ending: Mutex::new(None),
            start_answered: AtomicBool::new(false),
            starting: Mutex::new(None),
        }
    }

    /// The worker has said whether it runs this isolate.
    pub(super) fn start_answered(&self) {
        self.start_answered.store(true, Ordering::SeqCst);
    }

    /// Whether a worker that is able to start the isolate keeps its supervisor waiting.
    pub(super) fn start_is_overdue(&self) -> bool {
        if self.start_answered.load(Ordering::SeqCst) {
            return false;
        }
        let mut starting = self.starting.lock();
        starting.get_or_insert_with(Instant::now).elapsed() > START
    }

    /// The next message to send, if the worker may have it.
    pub(super) fn next(&self) -> Option<stockade_protocol::ToIsolate> {
        let mut flow = self.flow.lock();
        let has_room = flow.unseen.len() < UNSEEN_MESSAGES
            && flow.unseen_bytes < UNSEEN_BYTES
            && flow.held_bytes < HELD_BYTES;
        if !has_room {
            return None;
        }
        // Under the lock: between leaving the queue and counting here a message would be nowhere.
        let (message, size) = self.guest.next_message()?;
        flow.sent += 1;
        flow.unseen.push_back(size);
        flow.unseen_bytes = flow.unseen_bytes.saturating_add(size);
        flow.held_messages += 1;
        flow.held_bytes = flow.held_bytes.saturating_add(size);
        Some(message)
    }

    /// Whether it has messages that it has not handled.
    pub(super) fn is_busy(&self) -> bool {
        !self.flow.lock().unseen.is_empty()
    }

    /// The isolate has handled `seen` messages, and is `idle` or not.
    pub(super) fn saw(&self, seen: u64, idle: bool) -> Result<(), Misbehaved> {
        let mut flow = self.flow.lock();
        let before = flow.sent - flow.unseen.len() as u64;
        if !(before..=flow.sent).contains(&seen) {
            return Err(Misbehaved(format!(
                "it has seen {seen} messages, after {before} of {}",
                flow.sent
            )));
        }
        for _ in before..seen {
            let size = flow.unseen.pop_front().unwrap_or(0);
            flow.unseen_bytes = flow.unseen_bytes.saturating_sub(size);
        }
        self.guest.set_idle(idle && flow.unseen.is_empty());
        Ok(())
    }

    /// The isolate is done with messages: their places are free.
    pub(super) fn took(&self, messages: u32, bytes: u64) -> Result<(), Misbehaved> {
        let messages = messages as usize;
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let mut flow = self.flow.lock();
        let (Some(left), Some(left_bytes)) = (
            flow.held_messages.checked_sub(messages),
            flow.held_bytes.checked_sub(bytes),
        ) else {
            return Err(Misbehaved(format!(
                "it is done with {messages} messages ({bytes} bytes) of {} ({})",
                flow.held_messages, flow.held_bytes
            )));
        };
        flow.held_messages = left;
        flow.held_bytes = left_bytes;
        drop(flow);
        self.guest.done(messages, bytes);
        Ok(())
    }
}
