//! Messages that wait for the debugger or for the isolate, bounded in bytes.
//!
//! Invariants:
//! 1. What waits has at most [`MAX_WAITING`] bytes, each message with its overhead, whatever either side does.
//! 2. A sender that has to wait goes on when there is room or when the session is over, and not for longer than it wants.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use deno_core::futures::Stream;
use parking_lot::{Condvar, Mutex};
use stockade_protocol::bounds::MAX_DEBUG_BYTES;
use stockade_protocol::{UnansweredCommands, debug_message_size as size};

/// Bytes of messages that wait for one side of a session.
const MAX_WAITING: usize = MAX_DEBUG_BYTES;

/// Why a session is over before either side has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Overflow {
    /// The debugger takes nothing.
    #[error("the debugger does not read: {} MiB of messages wait for it", MAX_WAITING >> 20)]
    Full,
    /// One message does not fit.
    #[error("the isolate sent a message of more than {} MiB", MAX_WAITING >> 20)]
    TooLong,
}

/// A bounded way for messages to one receiver.
#[must_use]
pub(crate) fn messages() -> (MessageSender, MessageReceiver) {
    let shared = Arc::<Shared>::default();
    (MessageSender(Arc::clone(&shared)), MessageReceiver(shared))
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Threads that wait for room.
    room: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<String>,
    /// Bytes of `waiting`.
    bytes: usize,
    closed: bool,
    overflow: Option<Overflow>,
    receiver: Option<Waker>,
    senders: Vec<Waker>,
}

impl State {
    fn has_room(&self, size: usize) -> bool {
        self.bytes.saturating_add(size) <= MAX_WAITING
    }

    fn push(&mut self, text: String) {
        self.bytes += size(&text);
        self.waiting.push_back(text);
        if let Some(receiver) = self.receiver.take() {
            receiver.wake();
        }
    }

    fn close(&mut self) {
        self.closed = true;
        let receiver = self.receiver.take();
        for waker in receiver.into_iter().chain(self.senders.drain(..)) {
            waker.wake();
        }
    }
}

impl Shared {
    fn close(&self) {
        self.state.lock().close();
        self.room.notify_all();
    }
}

/// Puts messages there. When it is dropped, the receiver's stream ends.
pub struct MessageSender(Arc<Shared>);

impl Drop for MessageSender {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl MessageSender {
    /// Waits for room, and puts a message there. False if nobody takes it any more.
    pub async fn send(&self, text: String) -> bool {
        let mut text = Some(text);
        poll_fn(|cx| {
            let mut state = self.0.state.lock();
            let needed = text.as_deref().map_or(0, size);
            if state.closed || needed > MAX_WAITING {
                return Poll::Ready(false);
            }
            if !state.has_room(needed) {
                state.senders.push(cx.waker().clone());
                return Poll::Pending;
            }
            if let Some(text) = text.take() {
                state.push(text);
            }
            Poll::Ready(true)
        })
        .await
    }

    /// Puts a message there, and blocks the thread while there is no room; `waits` is called with true before it does and
    /// with false after it. When nothing is taken for as long as `patience`, the session is over.
    pub(crate) fn send_blocking(&self, text: String, patience: Duration, waits: impl Fn(bool)) {
        let needed = size(&text);
        let mut state = self.0.state.lock();
        if needed > MAX_WAITING {
            return self.overflow(&mut state, Overflow::TooLong);
        }
        if !state.closed && !state.has_room(needed) {
            waits(true);
            while !state.closed && !state.has_room(needed) {
                if self.0.room.wait_for(&mut state, patience).timed_out() {
                    self.overflow(&mut state, Overflow::Full);
                }
            }
            waits(false);
        }
        if !state.closed {
            state.push(text);
        }
    }

    fn overflow(&self, state: &mut State, why: Overflow) {
        state.overflow.get_or_insert(why);
        // What waits would be a session with a gap.
        state.waiting.clear();
        state.bytes = 0;
        state.close();
    }

    /// Ends the way from elsewhere.
    pub(crate) fn closer(&self) -> Closer {
        Closer(Arc::clone(&self.0))
    }

    /// Ends the way: who waits for room goes on, and what waits can still be taken.
    pub(crate) fn close(&self) {
        self.0.close();
    }
}

/// Ends the way of a [`MessageSender`].
pub(crate) struct Closer(Arc<Shared>);

impl Closer {
    pub(crate) fn close(&self) {
        self.0.close();
    }
}

/// Takes messages. When it is dropped, nothing more is put there.
pub struct MessageReceiver(Arc<Shared>);

impl Drop for MessageReceiver {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.waiting.clear();
        state.bytes = 0;
        state.close();
        drop(state);
        self.0.room.notify_all();
    }
}

impl Stream for MessageReceiver {
    type Item = Result<String, Overflow>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = self.0.state.lock();
        if let Some(text) = state.waiting.pop_front() {
            state.bytes = state.bytes.saturating_sub(size(&text));
            for sender in state.senders.drain(..) {
                sender.wake();
            }
            drop(state);
            self.0.room.notify_all();
            return Poll::Ready(Some(Ok(text)));
        }
        if let Some(why) = state.overflow.take() {
            return Poll::Ready(Some(Err(why)));
        }
        if state.closed {
            return Poll::Ready(None);
        }
        state.receiver = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// What a debugger has sent and V8 has not answered: further commands wait for room.
#[derive(Default)]
pub(crate) struct Unanswered {
    state: Mutex<Commands>,
}

#[derive(Default)]
struct Commands {
    unanswered: UnansweredCommands,
    closed: bool,
    senders: Vec<Waker>,
}

impl Unanswered {
    /// Waits until a command may be sent. False if nobody answers any more.
    pub(crate) async fn send(&self, text: &str) -> bool {
        poll_fn(|cx| {
            let mut state = self.state.lock();
            if state.closed || size(text) > MAX_WAITING {
                return Poll::Ready(false);
            }
            if !state.unanswered.sent(text) {
                state.senders.push(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(true)
        })
        .await
    }

    /// Takes a message of V8: an answer makes room.
    pub(crate) fn received(&self, message: &str) {
        let mut state = self.state.lock();
        if state.unanswered.received(message) {
            state.senders.drain(..).for_each(Waker::wake);
        }
    }

    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.senders.drain(..).for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use deno_core::futures::FutureExt as _;
    use deno_core::futures::StreamExt as _;

    use super::*;

    fn large() -> String {
        "x".repeat(MAX_WAITING / 4 - size(""))
    }

    #[test]
    fn sender_waits_for_room_and_goes_on_when_there_is_some() {
        let (sender, mut receiver) = messages();
        for _ in 0..4 {
            assert_eq!(sender.send(large()).now_or_never(), Some(true));
        }
        // Even the shortest message has to wait.
        let mut waiting = Box::pin(sender.send(String::new()));
        assert_eq!((&mut waiting).now_or_never(), None);
        assert_eq!(
            receiver
                .next()
                .now_or_never()
                .unwrap()
                .unwrap()
                .unwrap()
                .len(),
            large().len()
        );
        assert_eq!((&mut waiting).now_or_never(), Some(true));
        drop(waiting);
        drop(sender);
        assert_eq!(receiver.count().now_or_never(), Some(4));
    }

    #[test]
    fn thread_waits_for_room_and_one_that_is_never_read_ends_the_session() {
        let (sender, mut receiver) = messages();
        let waited = AtomicUsize::new(0);
        let waits = |begins: bool| {
            waited.fetch_add(usize::from(begins), Ordering::SeqCst);
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..8 {
                    sender.send_blocking(large(), Duration::from_secs(60), waits);
                }
            });
            let mut taken = 0;
            while taken < 8 {
                taken += usize::from(receiver.next().now_or_never().flatten().is_some());
            }
        });
        waited.store(0, Ordering::SeqCst);
        for _ in 0..6 {
            sender.send_blocking(large(), Duration::from_millis(1), waits);
        }
        // It waits once, and from then on there is nobody to wait for.
        assert_eq!(waited.load(Ordering::SeqCst), 1);
        assert_eq!(
            receiver.next().now_or_never(),
            Some(Some(Err(Overflow::Full)))
        );
        assert_eq!(receiver.next().now_or_never(), Some(None));
    }

    #[test]
    fn message_that_is_too_long_ends_the_session() {
        let (sender, mut receiver) = messages();
        sender.send_blocking("x".repeat(MAX_WAITING), Duration::ZERO, |_| {});
        assert_eq!(
            receiver.next().now_or_never(),
            Some(Some(Err(Overflow::TooLong)))
        );
    }

    #[test]
    fn thread_that_waits_goes_on_when_the_session_is_closed() {
        let (sender, receiver) = messages();
        for _ in 0..4 {
            sender.send_blocking(large(), Duration::ZERO, |_| {});
        }
        std::thread::scope(|scope| {
            let (begins, began) = std::sync::mpsc::channel();
            let sender = &sender;
            scope.spawn(move || {
                let waits = |_| {
                    let _ = begins.send(());
                };
                sender.send_blocking(large(), Duration::from_secs(600), waits);
            });
            began.recv().unwrap();
            drop(receiver);
        });
    }

    #[test]
    fn commands_without_an_answer_are_bounded() {
        let commands = Unanswered::default();
        for _ in 0..4 {
            assert_eq!(commands.send(&large()).now_or_never(), Some(true));
        }
        assert_eq!(commands.send("").now_or_never(), None);
        commands.received("{\"method\":\"Debugger.paused\"}");
        assert_eq!(commands.send("").now_or_never(), None);
        commands.received("{\"id\":1,\"result\":{}}");
        assert_eq!(commands.send("").now_or_never(), Some(true));
        commands.close();
        assert_eq!(commands.send("").now_or_never(), Some(false));
    }
}
