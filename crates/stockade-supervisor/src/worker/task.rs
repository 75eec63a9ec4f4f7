//! The task of a link, in the [event loop](super::event_loop).
//!
//! Invariants:
//! 1. Nothing more is read from a worker while a message of it waits for room in the host's queue.
//! 2. How a worker ended is what the kernel says; what the worker says only explains it.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use stockade_jail::{Exit, JailEvent};
use stockade_protocol::bounds::MAX_ERROR_BYTES;
use stockade_protocol::frame::{FromWorker, Reader, Verdict};
use stockade_protocol::{FromIsolate, harmless_line};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Sleep;

use super::ending;
use super::link::Link;
use super::member::{Member, Misbehaved};
use crate::end::{Figures, TerminateReason};
use crate::event::Event;
use crate::seat::Stopped;
use crate::wall::StartError;

/// Frames of one worker that are handled before others get their turn.
const BATCH: usize = 256;

/// How long a worker may live on that has closed its socket, which one that ends does, too.
const HUNG_UP: Duration = Duration::from_secs(5);

/// The task of a link.
pub(crate) struct Task {
    link: Arc<Link>,
    socket: Arc<AsyncFd<LinkSocket>>,
    /// While the socket is full: it again, to wait for room.
    writable: Option<AsyncFd<OwnedFd>>,
    events: UnboundedReceiver<JailEvent>,
    reader: Reader<FromWorker>,
    /// Events that wait for room in their host's queue.
    stalled: VecDeque<(Arc<Member>, Event)>,
    /// Messages of this worker wait until then, for its rates.
    slowed: Option<Pin<Box<Sleep>>>,
    /// The worker has closed its socket, and must be gone by then.
    hung_up: Option<Pin<Box<Sleep>>>,
}

/// The socket of a link, for the event loop.
struct LinkSocket(Arc<Link>);

impl AsRawFd for LinkSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.socket.as_raw_fd()
    }
}

impl Task {
    pub(crate) fn new(link: Arc<Link>, events: UnboundedReceiver<JailEvent>) -> io::Result<Self> {
        // Not for writing: every message that a worker takes would wake this task.
        #[expect(
            deprecated,
            reason = "what replaces it is unsafe; it owns the socket, which stays open"
        )]
        let socket = AsyncFd::with_interest(LinkSocket(Arc::clone(&link)), Interest::READABLE)?;
        Ok(Self {
            link,
            socket: Arc::new(socket),
            events,
            writable: None,
            reader: Reader::new(),
            stalled: VecDeque::new(),
            slowed: None,
            hung_up: None,
        })
    }

    pub(crate) fn link(&self) -> Arc<Link> {
        Arc::clone(&self.link)
    }

    fn poll_jail(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Poll::Ready(event) = self.events.poll_recv(cx) {
            match event {
                Some(JailEvent::Closed) => {
                    self.link.closed.store(true, Ordering::SeqCst);
                    self.link.watch.restart(&self.link.worker);
                }
                Some(JailEvent::Failed(error)) => {
                    let error = StartError {
                        what: error.what,
                        checked: error.checked,
                        fix: error.fix,
                    };
                    // First the reason, then the end, then the list: an isolate that is assigned meanwhile is in
                    // the list or is refused with the reason.
                    let error = self.link.failed.get_or_init(|| error);
                    self.link.kill();
                    for member in self.link.all() {
                        member.start_failed(error);
                    }
                }
                Some(JailEvent::Denied(denial)) => {
                    self.link.kill();
                    for member in self.link.all() {
                        log::warn!(
                            "isolate #{}: its worker tried the system call {denial}",
                            member.seat.id()
                        );
                        member.seat.convict(
                            TerminateReason::PolicyViolation,
                            format!("system call {denial}"),
                        );
                    }
                }
                Some(JailEvent::Exited(exit)) => {
                    self.exited(&exit);
                    return Poll::Ready(());
                }
                None => {
                    self.exited_unseen();
                    return Poll::Ready(());
                }
            }
        }
        Poll::Pending
    }

    fn exited(&mut self, exit: &Exit) {
        self.drain();
        self.link.gone.store(true, Ordering::SeqCst);
        self.link.watch.ended(exit.cpu);
        for member in self.link.all() {
            let memory = member.seat.options().limits.memory;
            let (reason, detail) = ending::of(exit, memory);
            if reason == TerminateReason::MemoryLimit {
                member.seat.memory_exceeded();
            } else {
                member.seat.convict(reason, detail);
            }
        }
        self.link.dismiss();
    }

    fn exited_unseen(&self) {
        self.link.kill();
        for member in self.link.all() {
            member
                .seat
                .convict(TerminateReason::Crashed, "its launcher is gone");
        }
        self.link.dismiss();
    }

    /// Takes what the worker had written before it ended: no more than the socket held, whether there is room
    /// or not.
    fn drain(&mut self) {
        loop {
            for (member, event) in self.stalled.drain(..) {
                member.seat.push_last(event);
            }
            let frame = self.reader.read_from(&mut Stream {
                socket: &self.link.socket,
            });
            let Ok(Some(frame)) = frame else { return };
            if self.handle(frame).is_err() {
                return;
            }
        }
    }

    /// Whether something waits that has to go before more is read.
    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(slowed) = &mut self.slowed {
            std::task::ready!(slowed.as_mut().poll(cx));
            self.slowed = None;
            self.link.watch.released();
        }
        while let Some((member, event)) = self.stalled.pop_front() {
            if let Err(event) = member.seat.try_push(event) {
                if member.seat.poll_drained(cx).is_ready() {
                    // Half of the queue is free, and that is too little for this one.
                    self.slowed = Some(Box::pin(tokio::time::sleep(Duration::from_millis(1))));
                    cx.waker().wake_by_ref();
                }
                self.stalled.push_front((member, *event));
                return Poll::Pending;
            }
            if self.stalled.is_empty() {
                self.link.watch.released();
            }
        }
        Poll::Ready(())
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Result<(), Misbehaved> {
        let socket = Arc::clone(&self.socket);
        let mut frames = 0;
        loop {
            if self.poll_held(cx).is_pending() {
                return Ok(());
            }
            // Asked before the socket is read: what arrives after the last read makes it ready again.
            let Poll::Ready(Ok(mut ready)) = socket.poll_read_ready(cx) else {
                return Ok(());
            };
            let mut stream = Stream {
                socket: &socket.get_ref().0.socket,
            };
            match self.reader.read_from(&mut stream) {
                Ok(Some(frame)) => {
                    self.handle(frame)?;
                    frames += 1;
                    if frames == BATCH {
                        cx.waker().wake_by_ref();
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    return Err(Misbehaved(error.to_string()));
                }
                // Its end comes from the kernel.
                Ok(None) | Err(_) => return self.poll_hung_up(cx),
            }
        }
    }

    /// Nothing comes any more from a worker that should be ending.
    fn poll_hung_up(&mut self, cx: &mut Context<'_>) -> Result<(), Misbehaved> {
        let overdue = (self.hung_up).get_or_insert_with(|| Box::pin(tokio::time::sleep(HUNG_UP)));
        if overdue.as_mut().poll(cx).is_pending() || self.link.is_gone() {
            return Ok(());
        }
        Err(Misbehaved("it closed its socket".to_owned()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) {
        let link = Arc::clone(&self.link);
        let Some(mut out) = link.out.try_lock() else {
            // A host is writing; what it leaves it tells.
            cx.waker().wake_by_ref();
            return;
        };
        while let Err(error) = link.write(&mut out) {
            // Any other error means that the worker is gone: the kernel tells how.
            if error.kind() != io::ErrorKind::WouldBlock || !self.poll_writable(cx) {
                return;
            }
        }
        self.writable = None;
    }

    /// Whether there is room in a socket that was full.
    fn poll_writable(&mut self, cx: &mut Context<'_>) -> bool {
        if let Some(writable) = &self.writable {
            return match writable.poll_write_ready(cx) {
                Poll::Ready(Ok(mut ready)) => {
                    // For the next time: the caller writes until there is none again.
                    ready.clear_ready();
                    true
                }
                _ => false,
            };
        }
        #[expect(
            deprecated,
            reason = "what replaces it is unsafe; it owns its descriptor"
        )]
        let writable = (self.link.socket.try_clone())
            .and_then(|socket| AsyncFd::with_interest(socket, Interest::WRITABLE));
        match writable {
            // It begins as not ready and hears of room that there is already.
            Ok(writable) => self.writable = Some(writable),
            // No descriptor to be had: look again soon.
            Err(_) => {
                self.slowed
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep(Duration::from_millis(1))));
                cx.waker().wake_by_ref();
                return false;
            }
        }
        self.poll_writable(cx)
    }

    fn handle(&mut self, frame: FromWorker) -> Result<(), Misbehaved> {
        let link = Arc::clone(&self.link);
        match frame {
            FromWorker::Ready => link.ready.store(true, Ordering::SeqCst),
            FromWorker::Started { isolate, problem } => {
                if let Some(member) = link.member(isolate) {
                    member.start_answered();
                    member.seat.started(match problem {
                        None => Ok(()),
                        Some(problem) => Err(StartError {
                            what: problem.what,
                            checked: problem.checked,
                            fix: problem.fix,
                        }),
                    });
                }
            }
            FromWorker::Message { isolate, message } => {
                if let Some(member) = link.member(isolate) {
                    self.message(member, message)?;
                }
            }
            FromWorker::Taken {
                isolate,
                messages,
                bytes,
            } => {
                if let Some(member) = link.member(isolate) {
                    member.took(messages, bytes)?;
                    // There is room for more.
                    link.task.wake();
                }
            }
            FromWorker::State {
                isolate,
                idle,
                seen,
                memory,
                ..
            } => {
                if let Some(member) = link.member(isolate) {
                    member.saw(seen, idle)?;
                    member.seat.note_memory(memory);
                    link.watch.rests();
                    // There may be room for more.
                    link.task.wake();
                }
            }
            FromWorker::Ended { isolate, verdict } => {
                if let Some(member) = link.member(isolate) {
                    ended(&member, &verdict);
                }
            }
            FromWorker::Left { isolate } => {
                if let Some(member) = link.remove(isolate) {
                    member.seat.convict(
                        TerminateReason::Crashed,
                        "the isolate's thread ended unexpectedly",
                    );
                }
            }
        }
        Ok(())
    }

    fn message(&mut self, member: Arc<Member>, message: FromIsolate) -> Result<(), Misbehaved> {
        let wait = member.seat.charge(&message);
        match member.seat.admit(message) {
            Ok(events) => {
                for event in events.into_iter().flatten() {
                    if !self.stalled.is_empty() {
                        self.stalled.push_back((Arc::clone(&member), event));
                    } else if let Err(event) = member.seat.try_push(event) {
                        self.stalled.push_back((Arc::clone(&member), *event));
                        self.link.watch.held();
                    }
                }
            }
            Err(Stopped::Ended) => {}
            // Its own process has refused them long ago.
            Err(
                error @ (Stopped::TooManyRequests { .. }
                | Stopped::RequestsTooLarge { .. }
                | Stopped::RequestTwice { .. }),
            ) => {
                return Err(Misbehaved(error.to_string()));
            }
        }
        if wait > Duration::ZERO {
            self.slowed = Some(Box::pin(tokio::time::sleep(wait)));
            self.link.watch.held();
        }
        Ok(())
    }
}

fn ended(member: &Member, verdict: &Verdict) {
    let figures = Figures {
        cpu: Duration::from_nanos(verdict.cpu_ns),
        cpu_total: Duration::from_nanos(verdict.cpu_total_ns),
        wall: Duration::from_nanos(verdict.wall_ns),
        memory: verdict.memory,
    };
    let reason = TerminateReason::from_name(&verdict.reason).unwrap_or(TerminateReason::Crashed);
    let detail = harmless_line(&verdict.detail, MAX_ERROR_BYTES);
    member.seat.convict_with(reason, detail, figures);
}

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        this.link.task.register(cx.waker());
        if this.poll_jail(cx).is_ready() {
            return Poll::Ready(());
        }
        if let Err(Misbehaved(how)) = this.poll_read(cx) {
            this.link.kill();
            for member in this.link.all() {
                log::warn!(
                    "isolate #{}: its worker broke the protocol: {how}",
                    member.seat.id()
                );
                member.seat.convict(
                    TerminateReason::PolicyViolation,
                    format!("its worker broke the protocol: {how}"),
                );
            }
        }
        for member in this.link.all() {
            // Registers for messages of the host.
            let _ = member.seat.poll_ready(cx);
        }
        this.poll_write(cx);
        Poll::Pending
    }
}

/// The link's socket, which never waits.
struct Stream<'a> {
    socket: &'a OwnedFd,
}

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // Without room for control data: descriptors that a worker attaches are closed by the kernel.
        Ok(rustix::io::read(self.socket, buffer)?)
    }
}
