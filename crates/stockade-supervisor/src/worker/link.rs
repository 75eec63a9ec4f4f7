//! The supervisor's end of a worker's socket: what any thread may do with it.
//!
//! Hosts write on their own threads as long as the socket takes it, unless the link gathers; everything
//! else is done by the link's [task](super::task).
//!
//! Invariant: nothing is sent before the worker's walls are closed.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use atomic_waker::AtomicWaker;
use parking_lot::Mutex;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use stockade_jail::Worker;
use stockade_protocol::frame::{self, Encoded, ToWorker};

use super::member::{Member, START};
use super::watch::Watch;
use crate::end::TerminateReason;
use crate::seat::Seat;
use crate::shared::Carrier;
use crate::wall::{Breaker, Outside, StartError};

/// One worker, and the isolates in it.
pub(crate) struct Link {
    pub(super) worker: Worker,
    pub(super) socket: OwnedFd,
    /// The walls are closed: messages may go in.
    pub(super) closed: AtomicBool,
    /// The worker has an isolate ready.
    pub(super) ready: AtomicBool,
    pub(super) gone: AtomicBool,
    /// Why its walls could not be closed; known, perhaps, before it has an isolate.
    pub(super) failed: OnceLock<StartError>,
    pub(super) out: Mutex<Out>,
    /// Threads that send leave the writing to the task: it writes what many have sent in one go.
    gathers: bool,
    isolates: Mutex<BTreeMap<u32, Arc<Member>>>,
    pub(super) task: AtomicWaker,
    pub(super) watch: Watch,
}

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

impl Link {
    pub(crate) fn new(worker: Worker, socket: OwnedFd, gathers: bool) -> Arc<Self> {
        Arc::new(Self {
            gathers,
            watch: Watch::new(&worker),
            worker,
            socket,
            closed: AtomicBool::new(false),
            ready: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            failed: OnceLock::new(),
            out: Mutex::default(),
            isolates: Mutex::default(),
            task: AtomicWaker::new(),
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
    pub(crate) fn members(&self) -> usize {
        self.isolates.lock().len()
    }

    /// Has the worker run the isolate of this seat; gives the seat back when the worker is gone.
    pub(crate) fn assign(self: &Arc<Self>, seat: Seat) -> Result<(), Seat> {
        let isolate = seat.id();
        let start = ToWorker::Start {
            isolate,
            options: seat.options().to_wire(),
        };
        if let Err(error) = frame::check(&start) {
            seat.start_failed(StartError {
                what: format!("the options are too large for a message: {error}"),
                checked: "env and modules together, as JSON".to_owned(),
                fix: "send large data as messages".to_owned(),
            });
            self.kill();
            return Ok(());
        }
        let breaker: Arc<dyn Breaker> = Arc::new(MemberBreaker {
            link: Arc::downgrade(self),
            isolate,
        });
        let member = {
            let mut isolates = self.isolates.lock();
            if self.is_gone() {
                return Err(seat);
            }
            self.watch.add(seat.options());
            let member = Arc::new(Member::new(seat));
            isolates.insert(isolate, Arc::clone(&member));
            member
        };
        self.out.lock().starts.push_back(start);
        if !self.gathers {
            let carrier = LinkCarrier(Arc::downgrade(self));
            member.seat.set_carrier(Arc::new(carrier));
        }
        member.seat.set_breaker(breaker);
        if self.gathers || !self.carry() {
            self.task.wake();
        }
        Ok(())
    }

    /// Why an isolate that comes now cannot be started.
    pub(crate) fn failure(&self) -> StartError {
        self.failed.get().cloned().unwrap_or_else(|| StartError {
            what: "its worker ended before it had an isolate".to_owned(),
            checked: "the worker's exit".to_owned(),
            fix: "try again; see the log (--verbose) for what ended it".to_owned(),
        })
    }

    pub(super) fn member(&self, isolate: u32) -> Option<Arc<Member>> {
        self.isolates.lock().get(&isolate).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<Member>> {
        self.isolates.lock().values().cloned().collect()
    }

    /// Lets go of every isolate, each of which reports its end, and takes no more.
    pub(super) fn dismiss(&self) {
        let members = {
            let mut isolates = self.isolates.lock();
            self.gone.store(true, Ordering::SeqCst);
            std::mem::take(&mut *isolates)
        };
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
    pub(super) fn write(&self, out: &mut Out) -> io::Result<()> {
        if !self.closed.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.write_gathered(out)?;
        if let Some(partial) = out.partial.take() {
            self.write_large(out, partial)?;
        }
        while let Some(start) = out.starts.pop_front() {
            self.put(out, start)?;
        }
        for member in self.all() {
            while let Some(message) = member.next() {
                self.watch.begins();
                let isolate = member.seat.id();
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

    /// Removes an isolate of which nothing runs any more; the worker goes with the last one.
    pub(super) fn remove(&self, isolate: u32) -> Option<Arc<Member>> {
        let mut isolates = self.isolates.lock();
        let member = isolates.remove(&isolate)?;
        if isolates.is_empty() {
            self.kill();
        }
        Some(member)
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
        let mut outside = self.watch.look(&self.worker, busy, memory);
        if self.closed.load(Ordering::SeqCst) && member.start_is_overdue() {
            let what = format!("its worker did not start it within {} s", START.as_secs());
            member.seat.started(Err(StartError {
                what: what.clone(),
                checked: "the worker's answer, once its walls were closed".to_owned(),
                fix: "give the machine less to do; report this where it has little".to_owned(),
            }));
            outside.overrun = Some((TerminateReason::PolicyViolation, what));
        }
        Some(outside)
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
