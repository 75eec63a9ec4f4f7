//! The place of an isolate's probe: what was found and waits to be taken.

use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use stockade_protocol::{FIRST_PROBE, Finding, ProbeId};

use crate::isolate::queue::Queue;

/// Bytes of findings that wait for the file; then the isolate waits.
const ROOM: usize = 1 << 20;

/// The probe that an isolate has, on its host's side.
pub(crate) struct ProbeSlot(Mutex<SlotState>);

#[derive(Default)]
struct SlotState {
    /// The number of the last one.
    last: ProbeId,
    open: Option<(ProbeId, Arc<Queue<Finding>>)>,
    /// The isolate has ended.
    ended: bool,
}

/// Why no probe can be opened.
pub(crate) enum NoProbe {
    /// The isolate has ended.
    Ended,
    /// It has one.
    Busy,
}

/// What became of a finding.
pub(crate) enum Found {
    /// It waits for the file, or nobody wants it any more.
    Taken,
    /// It has to wait: there is no room.
    Full(Finding),
    /// There never was such a probe.
    Unknown,
}

impl ProbeSlot {
    /// The slot of a new isolate, which may be `recorded` from its start.
    pub(crate) fn new(recorded: bool) -> Self {
        let mut state = SlotState::default();
        if recorded {
            state.last = FIRST_PROBE;
            state.open = Some((FIRST_PROBE, Arc::new(Queue::with_room(ROOM))));
        }
        Self(Mutex::new(state))
    }

    /// Opens the next probe.
    pub(crate) fn open(&self) -> Result<(ProbeId, Arc<Queue<Finding>>), NoProbe> {
        let mut state = self.0.lock();
        if state.ended {
            return Err(NoProbe::Ended);
        }
        if state.open.is_some() {
            return Err(NoProbe::Busy);
        }
        state.last = state.last.wrapping_add(1).max(1);
        let queue = Arc::new(Queue::with_room(ROOM));
        state.open = Some((state.last, Arc::clone(&queue)));
        Ok((state.last, queue))
    }

    /// Nobody wants the findings of this probe any more: a guest that waits for room goes on.
    pub(crate) fn close(&self, id: ProbeId) {
        let mut state = self.0.lock();
        if let Some((_, queue)) = state.open.take_if(|(open, _)| *open == id) {
            queue.close(true);
        }
    }

    /// The isolate has ended; what has come of its findings can still be taken.
    pub(crate) fn end(&self) {
        let mut state = self.0.lock();
        state.ended = true;
        if let Some((_, queue)) = &state.open {
            queue.close(false);
        }
    }

    /// Where the findings of a probe wait; nothing for one that is over, and an error for one that never was.
    pub(crate) fn queue(&self, id: ProbeId) -> Result<Option<Arc<Queue<Finding>>>, ()> {
        let state = self.0.lock();
        match &state.open {
            Some((open, queue)) if *open == id => Ok(Some(Arc::clone(queue))),
            _ if id >= 1 && id <= state.last => Ok(None),
            _ => Err(()),
        }
    }

    /// Takes a finding of an isolate in another process.
    pub(crate) fn take(&self, id: ProbeId, finding: Finding) -> Found {
        match self.queue(id) {
            Err(()) => Found::Unknown,
            Ok(None) => Found::Taken,
            Ok(Some(queue)) => {
                let size = size(&finding);
                match queue.try_push(finding, size) {
                    Ok(()) => {
                        queue.wake_consumer();
                        Found::Taken
                    }
                    Err(finding) => Found::Full(finding),
                }
            }
        }
    }

    /// Ready when a finding of the open probe may fit.
    pub(crate) fn poll_room(&self, id: ProbeId, cx: &mut Context<'_>) -> Poll<()> {
        match self.queue(id) {
            Ok(Some(queue)) => queue.poll_drained(cx),
            _ => Poll::Ready(()),
        }
    }

    /// Takes a finding of an isolate of this process on its thread, which waits for room; false if nobody wants it.
    pub(crate) fn take_waiting(
        &self,
        id: ProbeId,
        finding: Finding,
        held: impl FnOnce(&dyn Fn()),
    ) -> bool {
        let Ok(Some(queue)) = self.queue(id) else {
            return false;
        };
        let size = size(&finding);
        let taken = queue.push_waiting(finding, size, held).is_ok();
        queue.wake_consumer();
        taken
    }
}

fn size(finding: &Finding) -> usize {
    match finding {
        Finding::Piece(bytes) => bytes.len(),
        Finding::Failed(why) => why.len(),
        Finding::Message | Finding::Done => 0,
    }
}
