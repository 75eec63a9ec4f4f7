//! The supervisor's end of a worker's socket.
//!
//! A link carries messages of the isolates in one worker. Hosts write on their own threads as long as
//! the socket takes it; everything else happens in one task of the [event loop](super::event_loop).
//!
//! Invariants:
//! 1. Nothing is sent before the worker's walls are closed.
//! 2. A worker never has more than [`WINDOW_MESSAGES`] and [`WINDOW_BYTES`] of an isolate's messages,
//!    or one larger message: the rest waits in the host's queue, under its bounds.
//! 3. Nothing more is read from a worker while a message of it waits for room in the host's queue.
//! 4. How a worker ended is what the kernel says; what the worker says only explains it.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use atomic_waker::AtomicWaker;
use parking_lot::Mutex;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use stockade_jail::{Exit, JailEvent, Worker};
use stockade_protocol::bounds::MAX_ERROR_BYTES;
use stockade_protocol::frame::{self, Encoded, FromWorker, Reader, ToWorker, Verdict};
use stockade_protocol::{FromIsolate, harmless_line};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Sleep;

use super::ending;
use super::watch::Watch;
use crate::end::{Figures, TerminateReason};
use crate::event::Event;
use crate::seat::{Seat, Stopped};
use crate::shared::Carrier;
use crate::wall::{Breaker, Outside, StartError};

/// Messages and bytes of an isolate that its worker may have and not be done with.
const WINDOW_MESSAGES: usize = 4096;
const WINDOW_BYTES: usize = 1 << 20;

/// Frames of one worker that are handled before others get their turn.
const BATCH: usize = 256;

/// One worker, and the isolates in it.
pub(crate) struct Link {
    worker: Worker,
    socket: OwnedFd,
    /// The walls are closed: messages may go in.
    closed: AtomicBool,
    /// The worker has an isolate ready.
    ready: AtomicBool,
    gone: AtomicBool,
    out: Mutex<Out>,
    members: Mutex<BTreeMap<u32, Arc<Member>>>,
    task: AtomicWaker,
    pub(super) watch: Watch,
}

/// What is to be written first.
#[derive(Default)]
struct Out {
    starts: VecDeque<ToWorker>,
    /// A frame of which the socket has not taken all.
    partial: Option<Encoded<ToWorker>>,
}

/// An isolate in the worker.
pub(crate) struct Member {
    seat: Seat,
    window: Mutex<Window>,
    /// Messages sent, and how many of them the worker had looked at when it last rested.
    sent: AtomicU64,
    seen: AtomicU64,
    /// When the host asked for its end.
    ending: Mutex<Option<Instant>>,
}

#[derive(Default)]
struct Window {
    messages: usize,
    bytes: usize,
}

impl Window {
    fn has_room(&self) -> bool {
        self.messages < WINDOW_MESSAGES && self.bytes < WINDOW_BYTES
    }
}

impl Member {
    fn is_busy(&self) -> bool {
        self.sent.load(Ordering::SeqCst) != self.seen.load(Ordering::SeqCst)
    }
}

impl Link {
    pub(crate) fn new(worker: Worker, socket: OwnedFd) -> Arc<Self> {
        Arc::new(Self {
            watch: Watch::new(&worker),
            worker,
            socket,
            closed: AtomicBool::new(false),
            ready: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            out: Mutex::default(),
            members: Mutex::default(),
            task: AtomicWaker::new(),
        })
    }

    /// Whether the worker is gone or is being killed.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::SeqCst)
    }

    /// How many isolates are in it.
    pub(crate) fn members(&self) -> usize {
        self.members.lock().len()
    }

    /// Has the worker run the isolate of this seat.
    pub(crate) fn assign(self: &Arc<Self>, seat: Seat) {
        let isolate = seat.id();
        let start = ToWorker::Start {
            isolate,
            options: seat.options().to_wire(),
        };
        let breaker: Arc<dyn Breaker> = Arc::new(MemberBreaker {
            link: Arc::downgrade(self),
            isolate,
        });
        self.watch.add(seat.options());
        let member = Arc::new(Member {
            seat,
            window: Mutex::default(),
            sent: AtomicU64::new(0),
            seen: AtomicU64::new(0),
            ending: Mutex::new(None),
        });
        self.out.lock().starts.push_back(start);
        self.members.lock().insert(isolate, Arc::clone(&member));
        member
            .seat
            .set_carrier(Arc::new(LinkCarrier(Arc::downgrade(self))));
        member.seat.set_breaker(breaker);
        if !self.carry() {
            self.task.wake();
        }
    }

    fn member(&self, isolate: u32) -> Option<Arc<Member>> {
        self.members.lock().get(&isolate).cloned()
    }

    fn all(&self) -> Vec<Arc<Member>> {
        self.members.lock().values().cloned().collect()
    }

    /// Lets go of every isolate: each reports its end.
    fn dismiss(&self) {
        let members = std::mem::take(&mut *self.members.lock());
        // Only here: the end of each asks this link for its figures.
        drop(members);
    }

    /// Writes what waits, on the calling thread, as far as the socket takes it; false when it did not
    /// take everything or somebody else is writing.
    fn carry(&self) -> bool {
        match self.out.try_lock() {
            Some(mut out) => matches!(self.write(&mut out), Ok(())),
            None => false,
        }
    }

    /// Writes until nothing waits; `WouldBlock` when the socket is full.
    fn write(&self, out: &mut Out) -> io::Result<()> {
        if !self.closed.load(Ordering::SeqCst) {
            return Ok(());
        }
        if let Some(partial) = out.partial.take() {
            self.write_frame(out, partial)?;
        }
        while let Some(start) = out.starts.pop_front() {
            self.write_frame(out, frame::encode(start))?;
        }
        for member in self.all() {
            loop {
                if !member.window.lock().has_room() {
                    break;
                }
                let Some((message, size)) = member.seat.try_recv() else {
                    break;
                };
                {
                    let mut window = member.window.lock();
                    window.messages += 1;
                    window.bytes = window.bytes.saturating_add(size);
                }
                member.sent.fetch_add(1, Ordering::SeqCst);
                self.watch.begins();
                let frame = ToWorker::Message {
                    isolate: member.seat.id(),
                    message,
                };
                self.write_frame(out, frame::encode(frame))?;
            }
        }
        Ok(())
    }

    fn write_frame(&self, out: &mut Out, mut frame: Encoded<ToWorker>) -> io::Result<()> {
        while frame.remaining() > 0 {
            let mut nothing = SendAncillaryBuffer::default();
            let written = sendmsg(
                &self.socket,
                &frame.slices(),
                &mut nothing,
                SendFlags::NOSIGNAL,
            );
            match written {
                Ok(written) => frame.advance(written),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    out.partial = Some(frame);
                    return Err(error.into());
                }
            }
        }
        Ok(())
    }

    /// Ends an isolate: with its worker, if it is the only one there or does not stop by itself.
    fn terminate(&self, isolate: u32) {
        let Some(member) = self.member(isolate) else {
            return;
        };
        let alone = self.members() == 1;
        let overdue = {
            let mut ending = member.ending.lock();
            match *ending {
                Some(since) => since.elapsed() > member.seat.options().kill_grace,
                None => {
                    *ending = Some(Instant::now());
                    if !alone {
                        self.out.lock().starts.push_back(ToWorker::End { isolate });
                        self.task.wake();
                    }
                    false
                }
            }
        };
        if alone || overdue {
            self.kill();
        }
    }

    /// Ends the worker at once.
    pub(crate) fn kill(&self) {
        self.gone.store(true, Ordering::SeqCst);
        self.worker.kill();
    }

    fn outside(&self, isolate: u32) -> Option<Outside> {
        let member = self.member(isolate)?;
        let busy = member.is_busy();
        let memory = member.seat.memory();
        Some(self.watch.look(&self.worker, busy, memory))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.worker.kill();
    }
}

/// Writes on the thread of the host that sends.
struct LinkCarrier(Weak<Link>);

impl Carrier for LinkCarrier {
    fn carry(&self) -> bool {
        self.0.upgrade().is_some_and(|link| link.carry())
    }
}

struct MemberBreaker {
    link: Weak<Link>,
    isolate: u32,
}

impl Breaker for MemberBreaker {
    fn terminate(&self) {
        if let Some(link) = self.link.upgrade() {
            link.terminate(self.isolate);
        }
    }

    // The kernel gives processes their turns.
    fn interrupt(&self) {}

    fn outside(&self) -> Option<Outside> {
        self.link.upgrade()?.outside(self.isolate)
    }
}

/// What the worker said that no honest worker says.
struct Misbehaved(String);

/// The task of a link.
pub(crate) struct Task {
    link: Arc<Link>,
    socket: AsyncFd<LinkSocket>,
    /// While the socket is full: it again, to wait for room.
    writable: Option<AsyncFd<OwnedFd>>,
    events: UnboundedReceiver<JailEvent>,
    reader: Reader<FromWorker>,
    /// Events that wait for room in their host's queue.
    stalled: VecDeque<(Arc<Member>, Event)>,
    /// Messages of this worker wait until then, for its rates.
    slowed: Option<Pin<Box<Sleep>>>,
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
            socket,
            events,
            writable: None,
            reader: Reader::new(),
            stalled: VecDeque::new(),
            slowed: None,
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
                    for member in self.link.all() {
                        member.seat.started(Err(error.clone()));
                        member
                            .seat
                            .convict(TerminateReason::Crashed, "its worker did not start");
                    }
                    self.link.kill();
                }
                Some(JailEvent::Denied(denial)) => {
                    for member in self.link.all() {
                        log::warn!("isolate #{}: {denial:?}", member.seat.id());
                        member.seat.convict(
                            TerminateReason::PolicyViolation,
                            format!("system call {denial}"),
                        );
                    }
                    self.link.kill();
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

    /// Takes what the worker had written before it ended, as far as there is room.
    fn drain(&mut self) {
        if self.stalled.is_empty() {
            while let Ok(Some(frame)) = self.reader.read_from(&mut Stream {
                socket: &self.link.socket,
            }) {
                if self.handle(frame).is_err() || !self.stalled.is_empty() {
                    break;
                }
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
                self.stalled.push_front((member, event));
                return Poll::Pending;
            }
            if self.stalled.is_empty() {
                self.link.watch.released();
            }
        }
        Poll::Ready(())
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Result<(), Misbehaved> {
        let mut frames = 0;
        loop {
            if self.poll_held(cx).is_pending() {
                return Ok(());
            }
            let link = Arc::clone(&self.link);
            let mut stream = Stream {
                socket: &link.socket,
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
                // Its end comes from the kernel.
                Ok(None) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    match self.socket.poll_read_ready(cx) {
                        Poll::Ready(Ok(mut ready)) => {
                            // Readiness is cleared only after the socket was found empty.
                            ready.clear_ready();
                            if self.socket.poll_read_ready(cx).is_pending() {
                                return Ok(());
                            }
                        }
                        _ => return Ok(()),
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    return Err(Misbehaved(error.to_string()));
                }
                Err(_) => return Ok(()),
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) {
        let link = Arc::clone(&self.link);
        let Some(mut out) = link.out.try_lock() else {
            // A host is writing; what it leaves it tells.
            cx.waker().wake_by_ref();
            return;
        };
        loop {
            match link.write(&mut out) {
                Ok(()) => {
                    self.writable = None;
                    return;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !self.poll_writable(cx) {
                        return;
                    }
                }
                // The worker is gone: the kernel tells how.
                Err(_) => return,
            }
        }
    }

    /// Whether it is worth another try to write.
    fn poll_writable(&mut self, cx: &mut Context<'_>) -> bool {
        if self.writable.is_none() {
            #[expect(
                deprecated,
                reason = "what replaces it is unsafe; it owns its descriptor"
            )]
            let writable = self
                .link
                .socket
                .try_clone()
                .and_then(|socket| AsyncFd::with_interest(socket, Interest::WRITABLE));
            self.writable = writable.ok();
        }
        let Some(writable) = &self.writable else {
            // No descriptor to be had: look again soon.
            self.slowed
                .get_or_insert_with(|| Box::pin(tokio::time::sleep(Duration::from_millis(1))));
            cx.waker().wake_by_ref();
            return false;
        };
        match writable.poll_write_ready(cx) {
            Poll::Ready(Ok(mut ready)) => {
                ready.clear_ready();
                true
            }
            _ => false,
        }
    }

    fn handle(&mut self, frame: FromWorker) -> Result<(), Misbehaved> {
        let link = Arc::clone(&self.link);
        match frame {
            FromWorker::Ready => link.ready.store(true, Ordering::SeqCst),
            FromWorker::Started { isolate, problem } => {
                if let Some(member) = link.member(isolate) {
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
                    taken(&member, messages as usize, bytes)?;
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
                    let sent = member.sent.load(Ordering::SeqCst);
                    if seen > sent {
                        return Err(Misbehaved(format!("it has seen {seen} messages of {sent}")));
                    }
                    member.seen.store(seen, Ordering::SeqCst);
                    member.seat.note_memory(memory);
                    link.watch.rests();
                    member.seat.set_idle(idle && seen == sent);
                }
            }
            FromWorker::Ended { isolate, verdict } => {
                if let Some(member) = link.member(isolate) {
                    ended(&member, &verdict);
                }
            }
            FromWorker::Left { isolate } => {
                let left = link.members.lock().remove(&isolate);
                if let Some(member) = left {
                    member.seat.convict(
                        TerminateReason::Crashed,
                        "the isolate's thread ended unexpectedly",
                    );

                    if link.members() == 0 {
                        link.kill();
                    }
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
                        self.stalled.push_back((Arc::clone(&member), event));
                        self.link.watch.held();
                    }
                }
            }
            Err(Stopped::Ended) => {}
            // Its own process has refused them long ago.
            Err(error @ Stopped::TooManyRequests { .. }) => {
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

fn taken(member: &Member, messages: usize, bytes: u64) -> Result<(), Misbehaved> {
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    let mut window = member.window.lock();
    let (Some(left), Some(left_bytes)) = (
        window.messages.checked_sub(messages),
        window.bytes.checked_sub(bytes),
    ) else {
        return Err(Misbehaved(format!(
            "it is done with {messages} messages ({bytes} bytes) of {} ({})",
            window.messages, window.bytes
        )));
    };
    window.messages = left;
    window.bytes = left_bytes;
    drop(window);
    member.seat.done_with(messages, bytes);
    Ok(())
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
            this.link.kill();
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
