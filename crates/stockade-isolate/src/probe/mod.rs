//! Probes of an isolate, on its own thread: CPU profiles, heap snapshots and heap statistics.
//!
//! An operator's order is followed where JavaScript may be interrupted, or between two activations. The isolate's clocks
//! stand meanwhile, and what a probe allocates is not counted as the guest's.
//!
//! Invariants:
//! 1. No JavaScript of the guest runs because of a probe.
//! 2. What a guest can make large, such as names and the number of its functions, is bounded before it is kept.

mod heap;
mod sampler;

use std::cell::RefCell;
use std::rc::Rc;

use deno_core::v8;
use stockade_protocol::bounds::MAX_FINDING_BYTES;
use stockade_protocol::{Finding, Probe, ProbeId, ProbeOrder};
use stockade_supervisor::{Clocks, GuestContext};

use self::sampler::Sampler;
use crate::modules::GuestModules;
use crate::sys::alloc::Uncounted;

/// The probes of one isolate; one at a time.
pub(crate) struct Probes {
    guest: Rc<GuestContext>,
    clocks: Clocks,
    modules: Rc<GuestModules>,
    context: Rc<v8::Global<v8::Context>>,
    /// The profile that is being recorded.
    recording: RefCell<Option<(ProbeId, Box<Sampler>)>>,
}

impl Probes {
    pub(crate) fn new(
        guest: Rc<GuestContext>,
        modules: Rc<GuestModules>,
        context: Rc<v8::Global<v8::Context>>,
    ) -> Rc<Self> {
        Rc::new(Self {
            clocks: guest.clocks(),
            guest,
            modules,
            context,
            recording: RefCell::new(None),
        })
    }

    /// Within JavaScript, where it may be interrupted: takes a sample of what runs, if that is wanted.
    pub(crate) fn interrupted(&self, isolate: &mut v8::Isolate) {
        if let Some((_, sampler)) = &mut *self.recording.borrow_mut()
            && self.guest.is_sample_due()
        {
            self.clocks.stop();
            sampler.sample(isolate, &self.context);
            self.clocks.restart();
        }
        self.follow(isolate);
    }

    /// Follows the orders that have come.
    pub(crate) fn follow(&self, isolate: &mut v8::Isolate) {
        while let Some((id, order)) = self.guest.next_order() {
            self.clocks.stop();
            match order {
                ProbeOrder::Start(probe) => self.start(isolate, id, probe),
                ProbeOrder::Stop => self.stop(id),
            }
            self.clocks.restart();
        }
    }

    fn start(&self, isolate: &mut v8::Isolate, id: ProbeId, probe: Probe) {
        let end = match probe {
            Probe::CpuProfile => {
                let _uncounted = Uncounted::begin();
                let sampler = Box::new(Sampler::new());
                *self.recording.borrow_mut() = Some((id, sampler));
                return self.guest.set_sampled(true);
            }
            Probe::Debugger => {
                Finding::Failed("it was not created for debuggers: run with --inspect".to_owned())
            }
            Probe::HeapStatistics => {
                let text = heap::statistics(isolate);
                let _uncounted = Uncounted::begin();
                self.send(id, text.as_bytes());
                Finding::Done
            }
            Probe::HeapSnapshot { more } => {
                let limit = self.guest.options().limits.memory;
                let in_worker = self.guest.is_in_worker();
                match heap::room(isolate, limit.filter(|_| in_worker), more) {
                    Ok(()) => {
                        let send = |piece: &[u8]| self.send(id, piece);
                        match in_worker {
                            true => heap::snapshot_in_worker(isolate, send),
                            false => heap::snapshot(isolate, send),
                        }
                        Finding::Done
                    }
                    Err(why) => Finding::Failed(why),
                }
            }
        };
        self.guest.found(id, end);
    }

    /// Ends a recording and sends the profile. An order for a probe that is over is ignored.
    fn stop(&self, id: ProbeId) {
        let recording = self.recording.borrow_mut().take_if(|(own, _)| *own == id);
        let Some((_, sampler)) = recording else {
            return;
        };
        self.guest.set_sampled(false);
        let _uncounted = Uncounted::begin();
        let end = match sampler.finish(&self.modules) {
            Ok(text) => {
                self.send(id, &text);
                Finding::Done
            }
            Err(why) => Finding::Failed(why),
        };
        self.guest.found(id, end);
    }

    /// Sends bytes of a result, as many pieces as it takes; false if nobody wants more of it.
    fn send(&self, id: ProbeId, bytes: &[u8]) -> bool {
        let _uncounted = Uncounted::begin();
        bytes
            .chunks(MAX_FINDING_BYTES)
            .all(|piece| self.guest.found(id, Finding::Piece(piece.to_vec())))
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        let _uncounted = Uncounted::begin();
        self.recording.borrow_mut().take();
    }
}
