//! The task that drives a connection, in the [event loop](super::event_loop).
//!
//! Invariants:
//! 1. Nothing more is read from a worker while a message of it waits for room in the host's queue.
//! 2. How a worker ended is what the kernel says; what the worker says only explains it.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSliceMut, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use stockade_protocol::bounds::MAX_ERROR_BYTES;
use stockade_protocol::frame::{FromWorker, Reader, Termination};
use stockade_protocol::{Finding, FromIsolate, ProbeId, harmless_line};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Sleep;

use super::connection::Connection;
use super::isolate::{Misbehaved, WorkerIsolate};
use super::process::{WorkerEvent, WorkerExit};
use crate::end::{ResourceUsage, TerminateReason};
use crate::host::event::Event;
use crate::host::probe_slot::Found;
use crate::isolate::refusal::GuestSendError;
use crate::start_error::StartError;

/// Frames of one worker, and bytes that are read from it, before others get their turn.
const BATCH: usize = 256;
const BATCH_BYTES: usize = 128 << 10;

/// How long a worker may live on that has closed its socket, which one that ends does, too.
const PEER_CLOSED: Duration = Duration::from_secs(5);

/// Drives a connection until its worker has ended.
pub(crate) struct Driver {
    connection: Arc<Connection>,
    socket: Arc<AsyncFd<Socket>>,
    /// While the socket is full: it again, to wait for room.
    writable: Option<AsyncFd<OwnedFd>>,
    events: UnboundedReceiver<WorkerEvent>,
    reader: Reader<FromWorker>,
    /// What waits for room in its host's queue.
    stalled: VecDeque<(Arc<WorkerIsolate>, Stalled)>,
    /// Messages of this worker wait until then, for its rates.
    slowed: Option<Pin<Box<Sleep>>>,
    /// The worker has closed its socket, and must be gone by then.
    peer_closed: Option<Pin<Box<Sleep>>>,
}

/// Something of an isolate for which its host has no room.
enum Stalled {
    Event(Event),
    Finding(ProbeId, Finding),
}

/// The socket of a connection, for the event loop.
struct Socket(Arc<Connection>);

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.socket.as_raw_fd()
    }
}

impl Driver {
    pub(crate) fn new(
        connection: Arc<Connection>,
        events: UnboundedReceiver<WorkerEvent>,
    ) -> io::Result<Self> {
        // Not for writing: every message that a worker takes would wake this task.
        #[expect(
            deprecated,
            reason = "what replaces it is unsafe; it owns the socket, which stays open"
        )]
        let socket = AsyncFd::with_interest(Socket(Arc::clone(&connection)), Interest::READABLE)?;
        Ok(Self {
            connection,
            socket: Arc::new(socket),
            events,
            writable: None,
            reader: Reader::new(),
            stalled: VecDeque::new(),
            slowed: None,
            peer_closed: None,
        })
    }

    pub(crate) fn connection(&self) -> Arc<Connection> {
        Arc::clone(&self.connection)
    }

    /// Handles what happens to the worker; ready once it has ended.
    fn poll_worker(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Poll::Ready(event) = self.events.poll_recv(cx) {
            match event {
                Some(WorkerEvent::Sealed) => {
                    self.connection.sealed.store(true, Ordering::SeqCst);
                    let process = &*self.connection.process;
                    self.connection.backstop.restart(process);
                }
                Some(WorkerEvent::Failed(error)) => self.failed(error),
                Some(WorkerEvent::Violated(what)) => {
                    self.end_all(|isolate| {
                        tracing::warn!(
                            "isolate #{}: its worker tried the {what}",
                            isolate.guest.id()
                        );
                        let reason = TerminateReason::PolicyViolation;
                        isolate.guest.terminate(reason, what.as_str());
                    });
                }
                Some(WorkerEvent::Exited(exit)) => {
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

    /// Kills the worker and ends its isolates. In this order: an isolate that is assigned meanwhile is among
    /// them, or is refused.
    fn end_all(&self, end: impl Fn(&WorkerIsolate)) {
        self.connection.kill();
        for isolate in self.connection.all() {
            end(&isolate);
        }
    }

    /// An isolation layer of the worker could not be set up.
    fn failed(&self, error: StartError) {
        // First: an isolate that is refused for it gets this error.
        let error = self.connection.failed.get_or_init(|| error);
        self.end_all(|isolate| isolate.guest.start_failed(error.clone()));
    }

    fn exited(&mut self, exit: &WorkerExit) {
        self.drain();
        self.connection.backstop.ended(exit.cpu);
        self.connection.count_last_cpu();
        self.end_all(|isolate| {
            if isolate.guest.options().group.is_none() {
                isolate.guest.note_peak(exit.peak_memory);
            }
            let memory = isolate.guest.options().limits.memory;
            let (reason, detail) = exit.reason(memory);
            if reason == TerminateReason::MemoryLimit {
                isolate.guest.memory_exceeded();
            } else {
                isolate.guest.terminate(reason, detail);
            }
        });
        self.connection.dismiss();
    }

    /// Nobody watches the worker any more.
    fn exited_unseen(&self) {
        self.connection.count_last_cpu();
        self.end_all(|isolate| {
            (isolate.guest).terminate(TerminateReason::Crashed, "its launcher is gone");
        });
        self.connection.dismiss();
    }

    /// Takes what the worker had written before it ended: no more than the socket held, whether there is room
    /// or not.
    fn drain(&mut self) {
        loop {
            for (isolate, stalled) in self.stalled.drain(..) {
                match stalled {
                    Stalled::Event(event) => isolate.guest.push_last(event),
                    // It is incomplete: the isolate has ended.
                    Stalled::Finding(..) => {}
                }
            }
            let frame = self.reader.read_from(&mut Stream {
                socket: &self.connection.socket,
                left: usize::MAX,
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
            self.connection.backstop.released();
        }
        while let Some((isolate, stalled)) = self.stalled.pop_front() {
            let (back, drained) = match stalled {
                Stalled::Event(event) => match isolate.guest.try_push(event) {
                    Ok(()) => (None, Poll::Pending),
                    Err(event) => (Some(Stalled::Event(*event)), isolate.guest.poll_drained(cx)),
                },
                Stalled::Finding(id, finding) => match isolate.guest.found(id, finding) {
                    Found::Taken | Found::Unknown => (None, Poll::Pending),
                    Found::Full(finding) => (
                        Some(Stalled::Finding(id, finding)),
                        isolate.guest.poll_found(id, cx),
                    ),
                },
            };
            if let Some(back) = back {
                if drained.is_ready() {
                    // Half of the queue is free, and that is too little for this one.
                    self.slowed = Some(Box::pin(tokio::time::sleep(Duration::from_millis(1))));
                    cx.waker().wake_by_ref();
                }
                self.stalled.push_front((isolate, back));
                return Poll::Pending;
            }
            if self.stalled.is_empty() {
                self.connection.backstop.released();
            }
        }
        Poll::Ready(())
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Result<(), Misbehaved> {
        let socket = Arc::clone(&self.socket);
        let mut frames = 0;
        let mut stream = Stream {
            socket: &socket.get_ref().0.socket,
            left: BATCH_BYTES,
        };
        loop {
            if self.poll_held(cx).is_pending() {
                return Ok(());
            }
            // Asked before the socket is read: what arrives after the last read makes it ready again.
            let Poll::Ready(Ok(mut ready)) = socket.poll_read_ready(cx) else {
                return Ok(());
            };
            match self.reader.read_from(&mut stream) {
                Ok(Some(frame)) => {
                    self.handle(frame)?;
                    frames += 1;
                    if frames == BATCH || stream.left == 0 {
                        go_on_later(cx);
                        return Ok(());
                    }
                }
                // A frame may be much longer than a turn.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && stream.left == 0 => {
                    go_on_later(cx);
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    return Err(Misbehaved(error.to_string()));
                }
                // Its end comes as an event.
                Ok(None) | Err(_) => return self.poll_peer_closed(cx),
            }
        }
    }

    /// Nothing comes any more from a worker that should be ending.
    fn poll_peer_closed(&mut self, cx: &mut Context<'_>) -> Result<(), Misbehaved> {
        let overdue =
            (self.peer_closed).get_or_insert_with(|| Box::pin(tokio::time::sleep(PEER_CLOSED)));
        if overdue.as_mut().poll(cx).is_pending() || self.connection.is_gone() {
            return Ok(());
        }
        Err(Misbehaved("it closed its socket".to_owned()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) {
        let connection = Arc::clone(&self.connection);
        let Some(mut out) = connection.out.try_lock() else {
            // A host is writing; it wakes this task for what it leaves.
            cx.waker().wake_by_ref();
            return;
        };
        while let Err(error) = connection.write(&mut out) {
            // Any other error means that the worker is gone: how comes as an event.
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
        let writable = (self.connection.socket.try_clone())
            .and_then(|socket| AsyncFd::with_interest(socket, Interest::WRITABLE));
        match writable {
            // It begins as not ready and becomes ready where there is room already.
            Ok(writable) => self.writable = Some(writable),
            // There is no descriptor for it: try again soon.
            Err(_) => {
                self.slowed
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep(Duration::from_millis(1))));
                cx.waker().wake_by_ref();
                return false;
            }
        }
        self.poll_writable(cx)
    }

    /// Handles one frame. One for an isolate that is not in this worker, or not any more, is ignored.
    fn handle(&mut self, frame: FromWorker) -> Result<(), Misbehaved> {
        let connection = Arc::clone(&self.connection);
        match frame {
            FromWorker::Ready => connection.ready.store(true, Ordering::SeqCst),
            FromWorker::Started { isolate, problem } => {
                if let Some(isolate) = connection.isolate(isolate) {
                    isolate.start_answered();
                    isolate.guest.started(match problem {
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
                if let Some(isolate) = connection.isolate(isolate) {
                    self.message(isolate, message)?;
                }
            }
            FromWorker::Taken {
                isolate,
                messages,
                bytes,
            } => {
                if let Some(isolate) = connection.isolate(isolate) {
                    // There is room for more, which is written next.
                    isolate.took(messages, bytes)?;
                }
            }
            FromWorker::State {
                isolate,
                idle,
                seen,
                memory,
                cpu_ns,
            } => {
                connection.reported_cpu(isolate, cpu_ns);
                if let Some(isolate) = connection.isolate(isolate) {
                    isolate.saw(seen, idle)?;
                    isolate.guest.note_memory(memory);
                    connection.backstop.rests();
                }
            }
            FromWorker::Ended {
                isolate,
                termination,
            } => {
                if let Some(isolate) = connection.isolate(isolate) {
                    ended(&isolate, &termination);
                }
            }
            FromWorker::Found {
                isolate,
                id,
                finding,
            } => {
                if let Some(isolate) = connection.isolate(isolate) {
                    self.found(isolate, id, finding)?;
                }
            }
            FromWorker::Left { isolate } => {
                if let Some(isolate) = connection.remove(isolate) {
                    isolate.guest.terminate(
                        TerminateReason::Crashed,
                        "the isolate's thread ended unexpectedly",
                    );
                }
            }
        }
        Ok(())
    }

    fn message(
        &mut self,
        isolate: Arc<WorkerIsolate>,
        message: FromIsolate,
    ) -> Result<(), Misbehaved> {
        let wait = isolate.guest.charge(&message);
        match isolate.guest.admit(message) {
            Ok(events) => {
                for event in events.into_iter().flatten() {
                    if !self.stalled.is_empty() {
                        let stalled = Stalled::Event(event);
                        self.stalled.push_back((Arc::clone(&isolate), stalled));
                    } else if let Err(event) = isolate.guest.try_push(event) {
                        let stalled = Stalled::Event(*event);
                        self.stalled.push_back((Arc::clone(&isolate), stalled));
                        self.connection.backstop.held();
                    }
                }
            }
            Err(GuestSendError::Ended) => {}
            // Its own process has refused them before.
            Err(
                error @ (GuestSendError::TooManyRequests { .. }
                | GuestSendError::RequestsTooLarge { .. }
                | GuestSendError::RequestTwice { .. }),
            ) => {
                return Err(Misbehaved(error.to_string()));
            }
        }
        if wait > Duration::ZERO {
            self.slowed = Some(Box::pin(tokio::time::sleep(wait)));
            self.connection.backstop.held();
        }
        Ok(())
    }
}

impl Driver {
    /// Takes what a probe has found. The worker waits while the host has no room for it.
    fn found(
        &mut self,
        isolate: Arc<WorkerIsolate>,
        id: ProbeId,
        finding: Finding,
    ) -> Result<(), Misbehaved> {
        let is_last = matches!(finding, Finding::Done | Finding::Failed(_));
        match isolate.guest.found(id, finding) {
            Found::Taken => {}
            Found::Full(finding) => {
                self.stalled
                    .push_back((isolate, Stalled::Finding(id, finding)));
                self.connection.backstop.held();
            }
            Found::Unknown => {
                return Err(Misbehaved(format!(
                    "it answers probe {id}, which was never made"
                )));
            }
        }
        if is_last {
            self.connection.backstop.probe_ends();
            self.connection.return_memory();
        }
        Ok(())
    }
}

/// Has this task go on once the tasks that can go on had their turn and the event loop has looked for new events. A task
/// that just wakes itself comes round many times before the event loop looks.
fn go_on_later(cx: &mut Context<'_>) {
    let _ = pin!(tokio::task::yield_now()).poll(cx);
}

fn ended(isolate: &WorkerIsolate, termination: &Termination) {
    let usage = ResourceUsage {
        cpu: Duration::from_nanos(termination.cpu_ns),
        cpu_total: Duration::from_nanos(termination.cpu_total_ns),
        wall: Duration::from_nanos(termination.wall_ns),
        memory: termination.memory,
    };
    let reason =
        TerminateReason::from_name(&termination.reason).unwrap_or(TerminateReason::Crashed);
    let detail = harmless_line(&termination.detail, MAX_ERROR_BYTES);
    isolate.guest.terminate_with(reason, detail, usage);
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        this.connection.driver.register(cx.waker());
        if this.poll_worker(cx).is_ready() {
            return Poll::Ready(());
        }
        if let Err(Misbehaved(how)) = this.poll_read(cx) {
            this.end_all(|isolate| {
                tracing::warn!(
                    "isolate #{}: its worker broke the protocol: {how}",
                    isolate.guest.id()
                );
                isolate.guest.terminate(
                    TerminateReason::PolicyViolation,
                    format!("its worker broke the protocol: {how}"),
                );
            });
        }
        for isolate in this.connection.all() {
            isolate.guest.watch_messages(cx);
        }
        this.poll_write(cx);
        Poll::Pending
    }
}

/// The connection's socket, which never waits.
struct Stream<'a> {
    socket: &'a OwnedFd,
    /// Bytes of the turn that are left, about: the last read may be longer.
    left: usize,
}

impl Stream<'_> {
    fn take_turn(&self) -> io::Result<()> {
        match self.left {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            _ => Ok(()),
        }
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.take_turn()?;
        // Without room for control data: descriptors that a worker attaches are closed by the kernel.
        let count = rustix::io::read(self.socket, buffer)?;
        self.left = self.left.saturating_sub(count);
        Ok(count)
    }

    fn read_vectored(&mut self, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.take_turn()?;
        let count = rustix::io::readv(self.socket, slices)?;
        self.left = self.left.saturating_sub(count);
        Ok(count)
    }
}
