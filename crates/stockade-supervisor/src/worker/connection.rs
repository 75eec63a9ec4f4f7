//! The supervisor's end of a worker's socket: what any thread may do with it.
//!
//! Hosts write on their own threads as long as the socket takes it, unless the connection gathers; everything
//! else is done by the connection's [driver](super::driver).
//!
//! Invariant: nothing is sent before the worker is sealed.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use atomic_waker::AtomicWaker;
use parking_lot::Mutex;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use stockade_protocol::frame::{self, Encoded, ToWorker};
use stockade_protocol::{Probe, ProbeId, ProbeOrder};

use super::backstop::Backstop;
use super::cpu_shares::CpuShares;
use super::isolate::{START, WorkerIsolate};
use super::process::{LaunchedWorker, WorkerProcess};
use crate::end::TerminateReason;
use crate::host::remote::RemoteGuest;
use crate::host::side::InlineFlush;
use crate::limits::interrupt::{InterruptHandle, Outside};
use crate::start_error::StartError;

/// One worker, and the isolates in it.
pub(crate) struct Connection {
    pub(super) process: Box<dyn WorkerProcess>,
    pub(super) socket: OwnedFd,
    /// The worker is sealed: messages may be sent to it.
    pub(super) sealed: AtomicBool,
    /// The worker has an isolate ready.
    pub(super) ready: AtomicBool,
    gone: AtomicBool,
    /// Why it could not be sealed; known, perhaps, before it has an isolate.
    pub(super) failed: OnceLock<StartError>,
    pub(super) out: Mutex<Out>,
    /// Threads that send leave the writing to the driver: it writes what many have sent in one go.
    gathers: bool,
    isolates: Mutex<BTreeMap<u32, Arc<WorkerIsolate>>>,
    pub(super) driver: AtomicWaker,
    pub(super) backstop: Backstop,
    /// The division of CPU time in a worker of a trust group.
    shares: CpuShares,
    loan: Mutex<Loan>,
}

/// Memory above its limit that a worker may use until its probes are over.
enum Loan {
    Never,
    Lent,
    /// It was taken back, and this is when the worker's memory was last read.
    Returned(Instant),
}

/// How often the memory of a worker is read that was lent some. What it has mapped it can use without asking the
/// kernel for more.
const LOOK_AGAIN: Duration = Duration::from_millis(400);

/// Bytes of small frames that are written in one go.
const GATHER: usize = 32 << 10;

/// What is to be written, in this order.
#[derive(Default)]
pub(super) struct Out {
    /// Small frames, one after the other, of which `written` bytes are gone.
    gathered: Vec<u8>,
    written: usize,
    /// A large frame of which the socket has not taken all.
    partial: Option<Encoded<ToWorker>>,
    starts: VecDeque<ToWorker>,
}

impl Connection {
    pub(crate) fn new(worker: LaunchedWorker, gathers: bool) -> Arc<Self> {
        let LaunchedWorker { process, socket } = worker;
        Arc::new(Self {
            gathers,
            backstop: Backstop::new(&*process),
            process,
            socket,
            sealed: AtomicBool::new(false),
            ready: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            failed: OnceLock::new(),
            out: Mutex::default(),
            isolates: Mutex::default(),
            driver: AtomicWaker::new(),
            shares: CpuShares::default(),
            loan: Mutex::new(Loan::Never),
        })
    }

    /// Whether the worker is gone or is being killed.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::SeqCst)
    }

    /// Whether its worker waits for an isolate to run.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::SeqCst)
    }

    /// How many isolates are in it.
    pub(crate) fn isolates(&self) -> usize {
        self.isolates.lock().len()
    }

    /// Has the worker run an isolate; gives it back when the worker is gone.
    pub(crate) fn assign(self: &Arc<Self>, guest: RemoteGuest) -> Result<(), RemoteGuest> {
        let id = guest.id();
        let start = ToWorker::Start {
            isolate: id,
            options: guest.options().to_wire(),
        };
        if let Err(error) = frame::check(&start) {
            guest.start_failed(StartError {
                what: format!("the options are too large for a message: {error}"),
                checked: "env and modules together, as JSON".to_owned(),
                fix: "send large data as messages".to_owned(),
            });
            self.kill();
            return Ok(());
        }
        // Checked under the lock: a thread that ends the worker first sets the flag and then goes through the list.
        let isolate = {
            let mut isolates = self.isolates.lock();
            if self.is_gone() {
                return Err(guest);
            }
            self.backstop.add(guest.options());
            if guest.options().record_cpu {
                self.backstop.probe_begins();
            }
            self.shares.add(id);
            let isolate = Arc::new(WorkerIsolate::new(guest));
            isolates.insert(id, Arc::clone(&isolate));
            isolate
        };
        self.out.lock().starts.push_back(start);
        let connection = Arc::downgrade(self);
        if !self.gathers {
            let flush = ConnectionFlush(Weak::clone(&connection));
            isolate.guest.set_inline_flush(Arc::new(flush));
        }
        (isolate.guest).set_interrupt_handle(Arc::new(WorkerInterrupt { connection, id }));
        if self.gathers || !self.flush() {
            self.driver.wake();
        }
        Ok(())
    }

    /// Why an isolate that comes now cannot be started.
    pub(crate) fn failure(&self) -> StartError {
        self.failed.get().cloned().unwrap_or_else(|| StartError {
            what: "its worker ended before it had an isolate".to_owned(),
            checked: "the worker's exit".to_owned(),
            fix: "try again; the log, or that of the kernel (dmesg), says what ended it".to_owned(),
        })
    }

    pub(super) fn isolate(&self, id: u32) -> Option<Arc<WorkerIsolate>> {
        self.isolates.lock().get(&id).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<WorkerIsolate>> {
        self.isolates.lock().values().cloned().collect()
    }

    /// Lets go of every isolate, each of which reports its end, and takes no more.
    pub(super) fn dismiss(&self) {
        let isolates = {
            let mut isolates = self.isolates.lock();
            self.gone.store(true, Ordering::SeqCst);
            std::mem::take(&mut *isolates)
        };
        // Not under the lock: the end of each asks this connection for the isolate's usage.
        drop(isolates);
    }

    /// Writes what waits, on the calling thread, as far as the socket takes it; false when it did not
    /// take everything or somebody else is writing.
    fn flush(&self) -> bool {
        match self.out.try_lock() {
            Some(mut out) => matches!(self.write(&mut out), Ok(())),
            None => false,
        }
    }

    /// Writes until nothing waits; `WouldBlock` when the socket is full.
    pub(super) fn write(&self, out: &mut Out) -> io::Result<()> {
        if !self.sealed.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.write_gathered(out)?;
        if let Some(partial) = out.partial.take() {
            self.write_large(out, partial)?;
        }
        while let Some(start) = out.starts.pop_front() {
            self.put(out, start)?;
        }
        for isolate in self.all() {
            while let Some(message) = isolate.next() {
                self.backstop.begins();
                let isolate = isolate.guest.id();
                self.put(out, ToWorker::Message { isolate, message })?;
            }
        }
        self.write_gathered(out)
    }

    /// Writes a large frame, gathers a small one.
    fn put(&self, out: &mut Out, frame: ToWorker) -> io::Result<()> {
        if frame::bulk_size(&frame) >= GATHER {
            let frame = frame::encode(frame);
            if let Err(error) = self.write_gathered(out) {
                out.partial = Some(frame);
                return Err(error);
            }
            return self.write_large(out, frame);
        }
        frame::append(&frame, &mut out.gathered);
        if out.gathered.len() >= GATHER {
            self.write_gathered(out)?;
        }
        Ok(())
    }

    fn write_gathered(&self, out: &mut Out) -> io::Result<()> {
        while out.written < out.gathered.len() {
            out.written += self.send(&[IoSlice::new(&out.gathered[out.written..])])?;
        }
        out.gathered.clear();
        out.gathered.shrink_to(2 * GATHER);
        out.written = 0;
        Ok(())
    }

    fn write_large(&self, out: &mut Out, mut frame: Encoded<ToWorker>) -> io::Result<()> {
        while frame.remaining() > 0 {
            match self.send(&frame.slices()) {
                Ok(written) => frame.advance(written),
                Err(error) => {
                    out.partial = Some(frame);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn send(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        loop {
            let mut nothing = SendAncillaryBuffer::default();
            match sendmsg(&self.socket, slices, &mut nothing, SendFlags::NOSIGNAL) {
                Err(rustix::io::Errno::INTR) => {}
                written => return Ok(written?),
            }
        }
    }

    /// Ends an isolate: with its worker, if it is the only one there or does not stop by itself.
    fn terminate(&self, id: u32) {
        let Some(isolate) = self.isolate(id) else {
            return;
        };
        let alone = self.isolates() == 1;
        let overdue = {
            let mut ending = isolate.ending.lock();
            match *ending {
                Some(since) => since.elapsed() > isolate.guest.options().kill_grace,
                None => {
                    *ending = Some(Instant::now());
                    if !alone {
                        let end = ToWorker::End { isolate: id };
                        self.out.lock().starts.push_back(end);
                        self.driver.wake();
                    }
                    false
                }
            }
        };
        if alone || overdue {
            self.kill();
        }
    }

    /// Has the worker begin or end a probe. What that costs it is not the guest's.
    fn order(&self, isolate: u32, id: ProbeId, order: ProbeOrder) {
        match order {
            ProbeOrder::Start(_) => self.backstop.probe_begins(),
            ProbeOrder::Stop => self.backstop.probe_stops(),
        }
        let order = match order {
            ProbeOrder::Start(Probe::HeapSnapshot { .. }) => {
                let more = self.lend_memory();
                ProbeOrder::Start(Probe::HeapSnapshot { more })
            }
            order => order,
        };
        let order = ToWorker::Probe { isolate, id, order };
        self.out.lock().starts.push_back(order);
        self.driver.wake();
    }

    /// Lets the worker, which has a probe from now on, use more memory until the probe is over.
    fn lend_memory(&self) -> u64 {
        let mut loan = self.loan.lock();
        let more = self.process.lend_memory();
        if more > 0 {
            *loan = Loan::Lent;
        }
        more
    }

    /// Takes back what the worker was lent once its probes are over. One that has not given it back, or uses it later, is
    /// over its limit.
    pub(super) fn return_memory(&self) {
        // The watchdog and the driver call this and wait for nothing: where it is being lent, a probe has begun.
        let Some(mut loan) = self.loan.try_lock() else {
            return;
        };
        let keeps_to_limit = match *loan {
            // Under the lock: a probe that begins now is noted before it is lent something.
            Loan::Lent if !self.backstop.is_probed() => self.process.return_memory(),
            Loan::Returned(looked) if looked.elapsed() >= LOOK_AGAIN => {
                self.process.keeps_to_memory()
            }
            _ => return,
        };
        *loan = Loan::Returned(Instant::now());
        if !keeps_to_limit {
            for isolate in self.all() {
                isolate.guest.memory_exceeded();
            }
            self.kill();
        }
    }

    /// Gives a debugger's message to an isolate in the worker.
    fn debug(&self, isolate: u32, id: ProbeId, text: String) {
        self.backstop.probe_lasts();
        let message = ToWorker::Debug { isolate, id, text };
        self.out.lock().starts.push_back(message);
        self.driver.wake();
    }

    /// Removes an isolate of which nothing runs any more; the worker goes with the last one.
    pub(super) fn remove(&self, id: u32) -> Option<Arc<WorkerIsolate>> {
        self.cpu(id);
        let mut isolates = self.isolates.lock();
        let isolate = isolates.remove(&id)?;
        if isolates.is_empty() {
            self.kill();
        }
        drop(isolates);
        self.shares.remove(id);
        Some(isolate)
    }

    /// The worker reports what an isolate's thread has used.
    pub(super) fn reported_cpu(&self, id: u32, cpu_ns: u64) {
        self.shares.report(id, cpu_ns);
    }

    /// Notes the CPU time of an isolate over its life, now, and gives it.
    fn cpu(&self, id: u32) -> Option<Duration> {
        let isolate = self.isolate(id)?;
        let mut cpu = self.backstop.cpu(&*self.process);
        if isolate.guest.options().group.is_some() {
            self.shares.divide(cpu, false);
            cpu = self.shares.of(id);
        }
        isolate.guest.note_cpu(cpu);
        Some(cpu)
    }

    /// The worker has ended: what it used in all is charged to its isolates.
    pub(super) fn count_last_cpu(&self) {
        let cpu = self.backstop.cpu(&*self.process);
        self.shares.divide(cpu, true);
        for isolate in self.all() {
            let guest = &isolate.guest;
            let in_group = guest.options().group.is_some();
            guest.note_cpu(if in_group {
                self.shares.of(guest.id())
            } else {
                cpu
            });
        }
    }

    /// Ends the worker at once.
    pub(crate) fn kill(&self) {
        self.gone.store(true, Ordering::SeqCst);
        self.process.kill();
    }

    fn outside(&self, id: u32) -> Option<Outside> {
        let isolate = self.isolate(id)?;
        let busy = isolate.is_busy();
        let memory = isolate.guest.memory();
        let mut outside = self.backstop.check(&*self.process, busy, memory);
        self.return_memory();
        if isolate.guest.options().group.is_some() {
            self.shares.divide(outside.usage.cpu_total, false);
            outside.usage.cpu_total = self.shares.of(id);
        }
        if self.sealed.load(Ordering::SeqCst) && isolate.start_is_overdue() {
            let what = format!("its worker did not start it within {} s", START.as_secs());
            isolate.guest.started(Err(StartError {
                what: what.clone(),
                checked: "the worker's answer after it was sealed".to_owned(),
                fix: "give the machine less to do; report this where it has little".to_owned(),
            }));
            outside.overrun = Some((TerminateReason::PolicyViolation, what));
        }
        Some(outside)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.process.kill();
    }
}

/// Writes on the thread of the host that sends.
struct ConnectionFlush(Weak<Connection>);

impl InlineFlush for ConnectionFlush {
    fn flush(&self) -> bool {
        (self.0.upgrade()).is_some_and(|connection| connection.flush())
    }
}

struct WorkerInterrupt {
    connection: Weak<Connection>,
    id: u32,
}

impl InterruptHandle for WorkerInterrupt {
    fn terminate(&self) {
        if let Some(connection) = self.connection.upgrade() {
            connection.terminate(self.id);
        }
    }

    // The kernel gives processes their time.
    fn interrupt(&self) {}

    fn order(&self, id: ProbeId, order: ProbeOrder) -> bool {
        if let Some(connection) = self.connection.upgrade() {
            connection.order(self.id, id, order);
        }
        true
    }

    fn debug(&self, id: ProbeId, text: String) {
        if let Some(connection) = self.connection.upgrade() {
            connection.debug(self.id, id, text);
        }
    }

    fn cpu(&self) -> Option<Duration> {
        self.connection.upgrade()?.cpu(self.id)
    }

    fn outside(&self) -> Option<Outside> {
        self.connection.upgrade()?.outside(self.id)
    }
}
