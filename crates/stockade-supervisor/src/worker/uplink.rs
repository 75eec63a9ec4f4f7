//! The worker's end of its socket.
//!
//! What isolates send is gathered and written when it has grown, when the isolate is idle, or when the
//! watchdog finds it old: a burst of messages costs one system call.
//!
//! Invariant: nobody but the thread of an isolate waits for room in the socket.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::net::RecvFlags;
use stockade_jail::{EXIT_FAILED, leave};
use stockade_limits::IsolateOptions;
use stockade_protocol::frame::{
    self, BorrowedControl, FromWorker, Outgoing, Reader, StartFailure, Termination, ToWorker,
};
use stockade_protocol::{Finding, FromIsolate, ProbeId, ToIsolate};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::end::{DestroyReason, End};
use crate::guest::context::GuestContext;
use crate::isolate::Isolate;
use crate::isolate::refusal::GuestSendError;
use crate::isolate::state::IsolateState;
use crate::isolate::uplink::Uplink;
use crate::limits::activity::now_ns;
use crate::limits::watchdog::Watchdog;
use crate::start_error::StartError;

/// Bytes that are gathered before they are written.
const GATHER: usize = 32 << 10;

/// How long what was gathered may wait while its isolate is busy.
const OLD: Duration = Duration::from_millis(1);

/// How often the watchdog looks for messages to an isolate that is too busy to look itself: for orders.
const LOOK: Duration = Duration::from_millis(50);

/// Messages and bytes that are acknowledged in one go.
const TAKEN_MESSAGES: u32 = 128;
const TAKEN_BYTES: u64 = 256 << 10;

/// The worker's connection to its host.
pub struct HostConnection {
    socket: Arc<OwnedFd>,
    out: Mutex<Out>,
    /// Frames of threads that may not wait for the one that is writing.
    late: Mutex<Vec<FromWorker>>,
    reader: Mutex<Reader<ToWorker>>,
    isolates: Mutex<BTreeMap<u32, Weak<WorkerSideIsolate>>>,
    starts: Mutex<VecDeque<(u32, IsolateOptions)>>,
    /// When the watchdog looks for messages next, in nanoseconds of its clock.
    next_look: AtomicU64,
    /// Where the isolate's own thread waits for the socket.
    readable: OnceLock<AsyncFd<Raw>>,
}

/// What is to be written.
#[derive(Default)]
struct Out {
    gathered: Vec<u8>,
    since: Option<Instant>,
}

/// An isolate in a worker, as the worker has it.
type WorkerSideIsolate = Isolate<SocketUplink>;

/// The way of one isolate to its host in another process.
struct SocketUplink {
    connection: Arc<HostConnection>,
    unacked: Mutex<Unacked>,
}

/// Messages to an isolate that are not acknowledged to the host.
#[derive(Default)]
struct Unacked {
    /// The isolate is done with them.
    taken: Count,
    /// The isolate has seen them.
    seen: Count,
}

#[derive(Default)]
struct Count {
    messages: u32,
    bytes: u64,
}

impl Count {
    /// Adds a message; true when it is time to acknowledge.
    fn add(&mut self, size: usize) -> bool {
        self.messages += 1;
        self.bytes = self.bytes.saturating_add(size as u64);
        self.messages >= TAKEN_MESSAGES || self.bytes >= TAKEN_BYTES
    }
}

/// The socket, for the event loop.
struct Raw(Arc<OwnedFd>);

impl AsRawFd for Raw {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl HostConnection {
    /// A connection over the message socket. Starts the watchdog, for no thread can be started once the worker is
    /// sealed.
    ///
    /// # Errors
    /// When that thread cannot be started.
    pub fn new(socket: OwnedFd) -> Result<Arc<Self>, StartError> {
        Watchdog::start()?;
        Ok(Arc::new(Self {
            socket: Arc::new(socket),
            out: Mutex::default(),
            late: Mutex::default(),
            reader: Mutex::new(Reader::new()),
            isolates: Mutex::default(),
            starts: Mutex::default(),
            next_look: AtomicU64::new(0),
            readable: OnceLock::new(),
        }))
    }

    /// Has the calling thread's event loop wait for the socket, so that no other thread is needed.
    ///
    /// # Errors
    /// When the event loop does not take it.
    pub fn attach(&self) -> io::Result<()> {
        #[expect(
            deprecated,
            reason = "what replaces it is unsafe; it owns the socket, which stays open"
        )]
        let fd = AsyncFd::with_interest(Raw(Arc::clone(&self.socket)), Interest::READABLE)?;
        let _ = self.readable.set(fd);
        Ok(())
    }

    /// Reports to the supervisor that an isolate can be started at once.
    pub fn ready(&self) {
        self.put_now(&FromWorker::Ready);
    }

    /// The next isolate to start, for a connection that is [attached](HostConnection::attach).
    pub async fn next_start(self: &Arc<Self>) -> GuestContext {
        loop {
            let (id, options) = std::future::poll_fn(|cx| {
                self.poll_arrivals(cx);
                match self.starts.lock().pop_front() {
                    Some(start) => Poll::Ready(start),
                    None => Poll::Pending,
                }
            })
            .await;
            if let Some(guest) = self.open(id, options) {
                return guest;
            }
        }
    }

    /// Reads on this thread for ever, and hands isolates to start to `start`.
    pub fn serve(self: &Arc<Self>, mut start: impl FnMut(GuestContext)) -> ! {
        loop {
            self.read(RecvFlags::empty());
            loop {
                let next = self.starts.lock().pop_front();
                let Some((id, options)) = next else { break };
                if let Some(guest) = self.open(id, options) {
                    start(guest);
                }
            }
        }
    }

    fn open(self: &Arc<Self>, id: u32, options: IsolateOptions) -> Option<GuestContext> {
        let grace = options.kill_grace;
        let isolate = Arc::new(WorkerSideIsolate {
            state: IsolateState::new(id, Arc::new(options), grace),
            uplink: SocketUplink {
                connection: Arc::clone(self),
                unacked: Mutex::default(),
            },
        });
        let watched: Weak<WorkerSideIsolate> = Arc::downgrade(&isolate);
        // The kernel gives workers their time.
        if let Err(error) = Watchdog::watch(Weak::clone(&watched) as _, None) {
            self.started(id, Err(error));
            return None;
        }
        self.isolates.lock().insert(id, watched);
        Some(GuestContext::new(isolate))
    }

    /// Reports whether an isolate was started.
    fn started(&self, isolate: u32, result: Result<(), StartError>) {
        let problem = result.err().map(|error| StartFailure {
            what: error.what,
            checked: error.checked,
            fix: error.fix,
        });
        self.put_now(&FromWorker::Started { isolate, problem });
    }

    /// Takes what has arrived, and registers the task for what comes later.
    fn poll_arrivals(&self, cx: &mut Context<'_>) {
        let Some(readable) = self.readable.get() else {
            return;
        };
        while let Poll::Ready(Ok(mut ready)) = readable.poll_read_ready(cx) {
            self.read(RecvFlags::DONTWAIT);
            // It took all there was: what comes later makes the socket ready again.
            ready.clear_ready();
        }
    }

    /// Takes what has arrived, on the isolate's own thread.
    fn take_arrivals(&self) {
        if self.readable.get().is_some() {
            self.read(RecvFlags::DONTWAIT);
        }
    }

    /// Reads all there is and handles it. Ends the process when the supervisor is gone: nobody is left
    /// to work for.
    fn read(&self, flags: RecvFlags) {
        self.read_with(
            &mut self.reader.lock(),
            flags,
            self.readable.get().is_none(),
        );
    }

    /// As [`HostConnection::read`], on the watchdog's thread and without waiting: for an isolate that reads itself and
    /// has not come to it for long.
    fn read_for_busy(&self, state: &IsolateState) {
        if self.readable.get().is_none() {
            return;
        }
        // One that a debugger holds has nothing else to wait for.
        if !state.activity.is_stopped() {
            let now = now_ns();
            if !state.activity.is_active() || now < self.next_look.load(Ordering::Relaxed) {
                return;
            }
            self.next_look.store(now + nanos(LOOK), Ordering::Relaxed);
        }
        if let Some(mut reader) = self.reader.try_lock() {
            self.read_with(&mut reader, RecvFlags::DONTWAIT, true);
        }
    }

    fn read_with(&self, reader: &mut Reader<ToWorker>, flags: RecvFlags, wakes: bool) {
        let mut stream = self.stream(flags);
        loop {
            match reader.read_from(&mut stream) {
                Ok(Some(frame)) => self.handle(frame, wakes),
                Ok(None) => leave(0),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => leave(EXIT_FAILED),
            }
        }
    }

    fn find(&self, isolate: u32) -> Option<Arc<WorkerSideIsolate>> {
        self.isolates.lock().get(&isolate).and_then(Weak::upgrade)
    }

    /// `wakes`: the thread that reads is not the isolate's.
    fn handle(&self, frame: ToWorker, wakes: bool) {
        match frame {
            ToWorker::Start { isolate, options } => match IsolateOptions::from_wire(&options) {
                Ok(options) => self.starts.lock().push_back((isolate, options)),
                Err(error) => self.started(
                    isolate,
                    Err(StartError {
                        what: format!("the isolate's options cannot be read: {error}"),
                        checked: "the message that starts an isolate".to_owned(),
                        fix: "run supervisor and worker from the same program".to_owned(),
                    }),
                ),
            },
            ToWorker::Message { isolate, message } => {
                if let Some(isolate) = self.find(isolate) {
                    deliver(&isolate.state, message);
                    // An isolate that reads itself checks its queue next.
                    if wakes {
                        isolate.state.inbox.wake_consumer();
                    }
                }
            }
            ToWorker::End { isolate } => {
                if let Some(isolate) = self.find(isolate) {
                    isolate.destroy(DestroyReason::Requested);
                }
            }
            ToWorker::Debug { isolate, id, text } => {
                if let Some(isolate) = self.find(isolate)
                    && let Some(debugger) = isolate.state.debugger()
                {
                    debugger.message(id, text);
                }
            }
            ToWorker::Probe { isolate, id, order } => {
                if let Some(isolate) = self.find(isolate) {
                    isolate.state.order(id, order);
                }
            }
        }
    }

    fn put_now(&self, frame: &FromWorker) {
        let mut out = self.out.lock();
        put(&mut out, frame);
        self.flush(&mut out);
    }

    /// Writes a frame now, or has the thread that is writing do it; never waits.
    fn put_at_once(&self, frame: FromWorker) {
        self.late.lock().push(frame);
        self.flush_stale();
    }

    /// Writes what was gathered, if it has waited for long and no thread is writing.
    fn flush_stale(&self) {
        let Some(mut out) = self.out.try_lock() else {
            return;
        };
        let old = out.since.is_some_and(|since| since.elapsed() >= OLD);
        if old || !self.late.lock().is_empty() {
            self.flush(&mut out);
        }
    }

    fn flush(&self, out: &mut Out) {
        let late = std::mem::take(&mut *self.late.lock());
        for frame in &late {
            put(out, frame);
        }
        let mut stream = self.stream(RecvFlags::empty());
        if stream.write_all(&out.gathered).is_err() {
            leave(0);
        }
        out.gathered.clear();
        out.gathered.shrink_to(2 * GATHER);
        out.since = None;
    }

    /// Writes a large frame as it is, without gathering it.
    fn write(&self, frame: impl Outgoing) {
        let mut stream = self.stream(RecvFlags::empty());
        if frame::encode(frame).write_to(&mut stream).is_err() {
            leave(0);
        }
    }

    fn stream(&self, flags: RecvFlags) -> Stream<'_> {
        Stream {
            socket: self.socket.as_fd(),
            flags,
            drained: false,
        }
    }
}

impl SocketUplink {
    /// Acknowledges messages and reports how the isolate is doing.
    fn acknowledge(&self, state: &IsolateState, idle: bool) {
        let mut out = self.connection.out.lock();
        let usage = state.usage();
        let Count { messages, bytes } = std::mem::take(&mut *self.unacked.lock()).taken;
        if messages > 0 {
            let frame = FromWorker::Taken {
                isolate: state.id,
                messages,
                bytes,
            };
            put(&mut out, &frame);
        }
        let report = FromWorker::State {
            isolate: state.id,
            idle,
            seen: state.inbox.popped(),
            cpu_ns: nanos(usage.cpu_total),
            memory: usage.memory,
        };
        put(&mut out, &report);
        self.connection.flush(&mut out);
    }
}

impl Uplink for SocketUplink {
    fn is_in_worker(&self) -> bool {
        true
    }

    fn started(&self, state: &IsolateState, result: Result<(), StartError>) {
        self.connection.started(state.id, result);
    }

    fn send(&self, state: &IsolateState, message: FromIsolate) -> Result<(), GuestSendError> {
        if let FromIsolate::Request { id, .. } = &message {
            state.open_request(*id, message.size())?;
        }
        let connection = &self.connection;
        let large = message.size() >= GATHER;
        let frame = FromWorker::Message {
            isolate: state.id,
            message,
        };
        let mut out = connection.out.lock();
        if large {
            state.activity.held_by_host(|| {
                connection.flush(&mut out);
                connection.write(&frame);
            });
            return Ok(());
        }
        put(&mut out, &frame);
        if out.gathered.len() >= GATHER {
            state.activity.held_by_host(|| connection.flush(&mut out));
        }
        Ok(())
    }

    fn send_part(
        &self,
        state: &IsolateState,
        name: &str,
        json: String,
        part: &[u8],
    ) -> Result<(), GuestSendError> {
        let frame = BorrowedControl {
            isolate: state.id,
            name,
            json: &json,
            bytes: part,
        };
        let mut out = self.connection.out.lock();
        if part.len() < GATHER {
            out.since.get_or_insert_with(Instant::now);
            frame::append(&frame, &mut out.gathered);
            if out.gathered.len() >= GATHER {
                state
                    .activity
                    .held_by_host(|| self.connection.flush(&mut out));
            }
            return Ok(());
        }
        // From where the guest has it: nothing of the guest runs until all of it is written.
        state.activity.held_by_host(|| {
            self.connection.flush(&mut out);
            self.connection.write(frame);
        });
        Ok(())
    }

    fn found(&self, state: &IsolateState, id: ProbeId, finding: Finding) -> bool {
        let frame = FromWorker::Found {
            isolate: state.id,
            id,
            finding,
        };
        let mut out = self.connection.out.lock();
        state.activity.held_by_host(|| {
            self.connection.flush(&mut out);
            self.connection.write(frame);
        });
        true
    }

    fn found_at_once(&self, state: &IsolateState, id: ProbeId, finding: Finding) {
        self.connection.put_at_once(FromWorker::Found {
            isolate: state.id,
            id,
            finding,
        });
    }

    fn flush(&self) {
        let mut out = self.connection.out.lock();
        if !out.gathered.is_empty() {
            self.connection.flush(&mut out);
        }
    }

    fn flush_stale(&self, state: &IsolateState) {
        self.connection.flush_stale();
        self.connection.read_for_busy(state);
    }

    fn poll_arrivals(&self, cx: &mut Context<'_>) {
        self.connection.poll_arrivals(cx);
    }

    fn take_arrivals(&self) {
        self.connection.take_arrivals();
    }

    fn seen(&self, state: &IsolateState, size: usize) {
        let due = self.unacked.lock().seen.add(size);
        if due {
            self.acknowledge(state, false);
        }
    }

    fn done(&self, state: &IsolateState, size: usize) {
        let due = self.unacked.lock().taken.add(size);
        if due {
            self.acknowledge(state, false);
        }
    }

    fn set_idle(&self, state: &IsolateState, idle: bool) {
        state.inbox.set_idle(idle, |_| {});
        self.acknowledge(state, idle);
    }

    fn report(&self, state: &IsolateState, end: End) {
        let End::Terminated {
            reason,
            usage,
            detail,
        } = end
        else {
            return;
        };
        let termination = Termination {
            reason: reason.name().to_owned(),
            detail,
            cpu_ns: nanos(usage.cpu),
            cpu_total_ns: nanos(usage.cpu_total),
            wall_ns: nanos(usage.wall),
            memory: usage.memory,
        };
        self.connection.put_at_once(FromWorker::Ended {
            isolate: state.id,
            termination,
        });
    }

    fn left(&self, state: &IsolateState) {
        self.connection.isolates.lock().remove(&state.id);
        let left = FromWorker::Left { isolate: state.id };
        self.connection.put_at_once(left);
    }
}

/// Puts a message of the host into the isolate's inbox. It is refused only when the isolate has ended.
fn deliver(state: &IsolateState, message: ToIsolate) {
    let answered = match &message {
        ToIsolate::Answer { id, .. } => Some(*id),
        _ => None,
    };
    let size = message.size();
    // Closed before the guest can take the answer, so that its next request finds the room.
    let _ = state.inbox.push(message, size, |_| {
        if let Some(id) = answered {
            state.requests.lock().close(id);
        }
    });
}

fn put(out: &mut Out, frame: &FromWorker) {
    out.since.get_or_insert_with(Instant::now);
    frame::append(frame, &mut out.gathered);
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The socket, read without waiting where asked to.
struct Stream<'a> {
    socket: BorrowedFd<'a>,
    /// The flags of the first read; no later one waits.
    flags: RecvFlags,
    /// A read gave less than it might have: there was no more (epoll(7), on edges and streams).
    drained: bool,
}

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.drained {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let (count, _) = rustix::net::recv(self.socket, &mut *buffer, self.flags)?;
        self.flags |= RecvFlags::DONTWAIT;
        self.drained = count < buffer.len();
        Ok(count)
    }
}

impl Write for Stream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(self.socket, bytes)?)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(rustix::io::writev(self.socket, slices)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn stream_read_short_has_no_more_for_now() {
        let (mut host, worker) = UnixStream::pair().unwrap();
        let stream = || Stream {
            socket: worker.as_fd(),
            flags: RecvFlags::empty(),
            drained: false,
        };
        let mut buffer = [0; 4];
        host.write_all(b"abcdef").unwrap();
        let mut first = stream();
        assert_eq!(first.read(&mut buffer).unwrap(), 4);
        assert_eq!(first.read(&mut buffer).unwrap(), 2);
        host.write_all(b"g").unwrap();
        let error = first.read(&mut buffer).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(stream().read(&mut buffer).unwrap(), 1);
    }

    #[test]
    fn stream_read_full_asks_again_without_waiting() {
        let (mut host, worker) = UnixStream::pair().unwrap();
        host.write_all(b"abcd").unwrap();
        let mut stream = Stream {
            socket: worker.as_fd(),
            flags: RecvFlags::empty(),
            drained: false,
        };
        let mut buffer = [0; 4];
        assert_eq!(stream.read(&mut buffer).unwrap(), 4);
        let error = stream.read(&mut buffer).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn count_is_due_by_messages_and_by_bytes() {
        let mut count = Count::default();
        assert!((1..TAKEN_MESSAGES).all(|_| !count.add(1)));
        assert!(count.add(1));
        let mut count = Count::default();
        assert!(!count.add(TAKEN_BYTES as usize - 1));
        assert!(count.add(1));
    }
}
