//! A bounded queue of one direction of one isolate.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use atomic_waker::AtomicWaker;
use parking_lot::{Condvar, Mutex};
use stockade_protocol::bounds::{MAX_QUEUE_BYTES, MAX_QUEUE_MESSAGES};

/// Why a queue did not take a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// This many messages and bytes already wait.
    Full { messages: usize, bytes: usize },
    /// The isolate has ended.
    Closed,
}

/// Messages that wait, and how much they hold.
///
/// A message counts from `push` until `release`: a consumer that takes it out and keeps it for later keeps
/// its place taken.
pub(crate) struct Queue<T> {
    state: Mutex<QueueState<T>>,
    consumer: AtomicWaker,
    room: Condvar,
}

struct QueueState<T> {
    items: VecDeque<(T, usize)>,
    held: usize,
    bytes: usize,
    /// The most that `bytes` may be.
    room: usize,
    closed: bool,
    /// Messages taken out so far.
    popped: u64,
    /// The consumer waits for more and has nothing else to do.
    idle: bool,
    /// Producers that wait until half of the queue is free.
    drained: Vec<Waker>,
    /// Size of the message that a producer still holds because there was no room for it.
    refused: Option<usize>,
    /// Tasks that wait until the queue is [stuck](State::is_stuck).
    watchers: Vec<Waker>,
}

impl<T> QueueState<T> {
    fn has_room(&self, size: usize) -> bool {
        // One message of any allowed size always fits into an empty queue.
        self.held == 0
            || (self.held < MAX_QUEUE_MESSAGES && self.bytes.saturating_add(size) <= self.room)
    }

    fn put(&mut self, item: T, size: usize) {
        self.items.push_back((item, size));
        self.held += 1;
        self.bytes = self.bytes.saturating_add(size);
        self.idle = false;
        self.refused = None;
    }

    /// A producer waits for room, and every message has been taken: only giving places back helps.
    fn is_stuck(&self) -> bool {
        let waits = |size| !self.has_room(size) || !self.drained.is_empty();
        !self.closed && self.items.is_empty() && self.refused.is_some_and(waits)
    }

    fn wake_watchers(&mut self) {
        if !self.watchers.is_empty() && self.is_stuck() {
            self.watchers.drain(..).for_each(Waker::wake);
        }
    }

    fn below_half(&self) -> bool {
        self.held <= MAX_QUEUE_MESSAGES / 2 && self.bytes <= self.room / 2
    }
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Self {
        Self::with_room(MAX_QUEUE_BYTES)
    }

    /// A queue for `bytes` bytes; one message of any allowed size is taken in any case.
    pub(crate) fn with_room(room: usize) -> Self {
        Self {
            state: Mutex::new(QueueState {
                items: VecDeque::new(),
                held: 0,
                bytes: 0,
                room,
                closed: false,
                popped: 0,
                idle: false,
                drained: Vec::new(),
                refused: None,
                watchers: Vec::new(),
            }),
            consumer: AtomicWaker::new(),
            room: Condvar::new(),
        }
    }

    /// Adds a message or says why not; the caller has the consumer look. `accepted` is called when there is room,
    /// before the consumer can take the message, with whether the consumer had been idle.
    pub(crate) fn push(
        &self,
        item: T,
        size: usize,
        accepted: impl FnOnce(bool),
    ) -> Result<(), Refused> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(Refused::Closed);
        }
        if !state.has_room(size) {
            return Err(Refused::Full {
                messages: state.held,
                bytes: state.bytes,
            });
        }
        accepted(state.idle);
        state.put(item, size);
        Ok(())
    }

    /// Has the consumer look.
    pub(crate) fn wake_consumer(&self) {
        self.consumer.wake();
    }

    /// Adds a message of the only producer. Where there is no room, `wait` is called with a function that
    /// waits for it on this thread. Fails once the queue is closed.
    pub(crate) fn push_waiting(
        &self,
        item: T,
        size: usize,
        wait: impl FnOnce(&dyn Fn()),
    ) -> Result<(), Refused> {
        let mut state = self.state.lock();
        if !state.closed && !state.has_room(size) {
            drop(state);
            wait(&|| self.wait_for_room(size));
            state = self.state.lock();
        }
        if state.closed {
            return Err(Refused::Closed);
        }
        state.put(item, size);
        Ok(())
    }

    fn wait_for_room(&self, size: usize) {
        let mut state = self.state.lock();
        while !state.closed && !state.has_room(size) {
            state.refused = Some(size);
            state.wake_watchers();
            self.room.wait(&mut state);
        }
    }

    /// Adds a message, or gives it back where there is no room; one for a closed queue is dropped.
    pub(crate) fn try_push(&self, item: T, size: usize) -> Result<(), T> {
        let mut state = self.state.lock();
        if state.closed {
            return Ok(());
        }
        if !state.has_room(size) {
            state.refused = Some(size);
            state.wake_watchers();
            return Err(item);
        }
        state.put(item, size);
        Ok(())
    }

    /// Adds one of the runtime's own messages: never refused, for they are few.
    pub(crate) fn push_always(&self, item: T, size: usize) {
        self.state.lock().put(item, size);
        self.consumer.wake();
    }

    /// Takes the oldest message with its size, which the caller gives to `release` when done with it.
    pub(crate) fn pop(&self) -> Option<(T, usize)> {
        let mut state = self.state.lock();
        let item = state.items.pop_front()?;
        state.popped += 1;
        Some(item)
    }

    /// Takes up to `max` messages with their sizes, whose places stay taken.
    pub(crate) fn pop_many(&self, max: usize) -> VecDeque<(T, usize)> {
        let mut state = self.state.lock();
        let count = state.items.len().min(max);
        state.popped += count as u64;
        let taken = state.items.drain(..count).collect();
        state.wake_watchers();
        taken
    }

    /// Takes [`Queue::pop_many`] back for messages that are still to be taken; by its only consumer.
    pub(crate) fn put_back(&self, items: VecDeque<(T, usize)>) {
        let mut state = self.state.lock();
        state.popped = state.popped.saturating_sub(items.len() as u64);
        for item in items.into_iter().rev() {
            state.items.push_front(item);
        }
    }

    /// How many messages have been taken out.
    pub(crate) fn popped(&self) -> u64 {
        self.state.lock().popped
    }

    /// How many messages have been put in.
    pub(crate) fn pushed(&self) -> u64 {
        let state = self.state.lock();
        state.popped + state.items.len() as u64
    }

    /// Takes up to `max` messages, done with them.
    pub(crate) fn take(&self, max: usize) -> Vec<T> {
        let mut state = self.state.lock();
        let count = state.items.len().min(max);
        let mut bytes = 0_usize;
        let taken = state
            .items
            .drain(..count)
            .map(|(item, size)| {
                bytes = bytes.saturating_add(size);
                item
            })
            .collect();
        state.popped += count as u64;
        self.give_back(&mut state, count, bytes);
        taken
    }

    /// Whether there is a message to take.
    pub(crate) fn has_items(&self) -> bool {
        !self.state.lock().items.is_empty()
    }

    /// Ready when there is a message, or there will be none.
    pub(crate) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.consumer.register(cx.waker());
        let state = self.state.lock();
        if state.items.is_empty() && !state.closed {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    }

    /// Gives back the place of a message.
    pub(crate) fn release(&self, size: usize) {
        self.give_back(&mut self.state.lock(), 1, size);
    }

    /// Gives back the places of `messages` messages with `bytes` bytes in total.
    pub(crate) fn release_many(&self, messages: usize, bytes: usize) {
        self.give_back(&mut self.state.lock(), messages, bytes);
    }

    fn give_back(&self, state: &mut QueueState<T>, count: usize, bytes: usize) {
        state.held = state.held.saturating_sub(count);
        state.bytes = state.bytes.saturating_sub(bytes);
        self.room.notify_all();
        if !state.drained.is_empty() && state.below_half() {
            state.drained.drain(..).for_each(Waker::wake);
        }
    }

    /// Ready when the queue is at most half full, or closed.
    pub(crate) fn poll_drained(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if state.closed || state.below_half() {
            return Poll::Ready(());
        }
        if !state.drained.iter().any(|w| w.will_wake(cx.waker())) {
            state.drained.push(cx.waker().clone());
            state.wake_watchers();
        }
        Poll::Pending
    }

    /// Ready when a producer waits for room although every message has been taken.
    pub(crate) fn poll_stuck(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if state.is_stuck() {
            return Poll::Ready(());
        }
        if !state.watchers.iter().any(|w| w.will_wake(cx.waker())) {
            state.watchers.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Notes whether the consumer has nothing to do but wait, which it has not while messages wait, and
    /// gives that to `note` before anything else can happen to the queue.
    pub(crate) fn set_idle(&self, idle: bool, note: impl FnOnce(bool)) {
        let mut state = self.state.lock();
        state.idle = idle && state.items.is_empty();
        note(state.idle);
    }

    /// Whether nothing comes any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.state.lock().idle
    }

    /// No more messages from now on; those that wait are dropped when `clear` is set.
    pub(crate) fn close(&self, clear: bool) {
        let mut state = self.state.lock();
        state.closed = true;
        if clear {
            state.items.clear();
            state.held = 0;
            state.bytes = 0;
        }
        state.drained.drain(..).for_each(Waker::wake);
        state.watchers.clear();
        drop(state);
        self.room.notify_all();
        self.consumer.wake();
    }

    /// Messages and bytes that wait.
    pub(crate) fn load(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.held, state.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_full_by_bytes_refuses_and_keeps_order() {
        let queue = Queue::new();
        queue.push(1, MAX_QUEUE_BYTES - 10, |_| {}).unwrap();
        assert!(matches!(
            queue.push(2, 20, |_| {}),
            Err(Refused::Full { messages: 1, .. })
        ));
        queue.push(3, 5, |_| {}).unwrap();
        assert_eq!(queue.pop(), Some((1, MAX_QUEUE_BYTES - 10)));
        assert!(
            queue.push(4, 20, |_| {}).is_err(),
            "a message taken out but not released keeps its place"
        );
        queue.release(MAX_QUEUE_BYTES - 10);
        queue.push(4, 20, |_| {}).unwrap();
        assert_eq!(queue.pop(), Some((3, 5)));
        assert_eq!(queue.pop(), Some((4, 20)));
    }

    #[test]
    fn queue_full_by_count_refuses() {
        let queue = Queue::new();
        for i in 0..MAX_QUEUE_MESSAGES {
            queue.push(i, 1, |_| {}).unwrap();
        }
        assert!(matches!(
            queue.push(0, 1, |_| {}),
            Err(Refused::Full {
                messages: MAX_QUEUE_MESSAGES,
                ..
            })
        ));
    }

    #[test]
    fn queue_waiting_producer_goes_on_after_release_and_fails_after_close() {
        let queue = Queue::new();
        queue.push(0, MAX_QUEUE_BYTES, |_| {}).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| queue.push_waiting(1, 1, |wait| wait()));
            let (_, size) = queue.pop().unwrap();
            queue.release(size);
            assert_eq!(waiting.join().unwrap(), Ok(()));
        });
        queue.push(2, MAX_QUEUE_BYTES - 1, |_| {}).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| queue.push_waiting(3, 2, |wait| wait()));
            queue.close(false);
            assert_eq!(waiting.join().unwrap(), Err(Refused::Closed));
        });
    }

    #[test]
    fn queue_is_stuck_once_all_is_taken_and_a_producer_waits() {
        let queue = Queue::new();
        let mut cx = Context::from_waker(Waker::noop());
        queue.push(0, MAX_QUEUE_BYTES, |_| {}).unwrap();
        assert_eq!(queue.try_push(1, 1), Err(1));
        assert!(queue.poll_stuck(&mut cx).is_pending(), "one can be taken");
        let (_, size) = queue.pop_many(1).pop_front().unwrap();
        assert!(queue.poll_stuck(&mut cx).is_ready());
        queue.release(size);
        assert!(queue.poll_stuck(&mut cx).is_pending());
        assert_eq!(queue.try_push(1, 1), Ok(()));
        queue.pop_many(1);
        assert!(queue.poll_stuck(&mut cx).is_pending());
    }
}
