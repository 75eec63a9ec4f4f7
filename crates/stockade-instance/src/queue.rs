//! Requests that wait for a mirror with room, first come, first served.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::error::FetchError;
use crate::mirror::Slot;

type Answer = Result<Slot, FetchError>;

#[derive(Default)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    /// As many as wait, for a quick look.
    length: AtomicUsize,
}

#[derive(Default)]
struct Waiting {
    tickets: BTreeMap<u64, oneshot::Sender<Answer>>,
    next: u64,
}

/// A place in the queue; dropping it leaves the queue.
pub(crate) struct Ticket<'a> {
    queue: &'a Queue,
    number: u64,
    pub(crate) answer: oneshot::Receiver<Answer>,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut waiting = self.queue.waiting.lock();
        if waiting.tickets.remove(&self.number).is_some() {
            self.queue.length.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Queue {
    pub(crate) fn length(&self) -> usize {
        self.length.load(Ordering::SeqCst)
    }

    /// Gets in line; `None` where `most` wait already.
    pub(crate) fn enter(&self, most: usize) -> Option<Ticket<'_>> {
        let mut waiting = self.waiting.lock();
        if waiting.tickets.len() >= most {
            return None;
        }
        let (sender, answer) = oneshot::channel();
        let number = waiting.next;
        waiting.next += 1;
        waiting.tickets.insert(number, sender);
        self.length.fetch_add(1, Ordering::SeqCst);
        Some(Ticket {
            queue: self,
            number,
            answer,
        })
    }

    /// Gives places to those who wait longest, as long as there are places.
    pub(crate) fn serve(&self, mut place: impl FnMut() -> Option<Slot>) {
        let mut unwanted = Vec::new();
        let mut waiting = self.waiting.lock();
        while !waiting.tickets.is_empty() {
            let Some(slot) = unwanted.pop().or_else(&mut place) else {
                break;
            };
            let Some((_, sender)) = waiting.tickets.pop_first() else {
                unwanted.push(slot);
                break;
            };
            self.length.fetch_sub(1, Ordering::SeqCst);
            if let Err(Ok(slot)) = sender.send(Ok(slot)) {
                unwanted.push(slot);
            }
        }
        drop(waiting);
        // Not under the lock: giving back a place serves the queue again.
        drop(unwanted);
    }

    /// Turns everybody away.
    pub(crate) fn refuse(&self, error: &FetchError) {
        let tickets = {
            let mut waiting = self.waiting.lock();
            self.length.store(0, Ordering::SeqCst);
            std::mem::take(&mut waiting.tickets)
        };
        for sender in tickets.into_values() {
            let _ = sender.send(Err(error.clone()));
        }
    }
}
