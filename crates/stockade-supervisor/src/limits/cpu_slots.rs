//! Time slicing: how many isolates of one supervisor compute at length at the same time.
//!
//! Short activations never wait. Where more activations are CPU-bound than there are slots, those that have used
//! least CPU time run for a slice, and the others are preempted.

use std::sync::Arc;
use std::time::Duration;

use super::activity::ActivationUsage;
use super::watched::Watched;

/// An activation is CPU-bound, and competes for slots, from this much CPU time on.
pub(crate) const CPU_BOUND: Duration = Duration::from_millis(3);

/// How long a slice is where CPU-bound activations share fewer slots.
pub(crate) const SLICE: Duration = Duration::from_millis(10);

/// The slots of one supervisor.
pub(crate) struct CpuSlots {
    pub(crate) count: usize,
}

/// A CPU-bound activation and the slots that it competes for.
pub(crate) struct CpuBound {
    pub(crate) isolate: Arc<dyn Watched>,
    pub(crate) slots: Arc<CpuSlots>,
    pub(crate) usage: ActivationUsage,
}

/// Gives slots to the CPU-bound activations of each supervisor: all of them where a slice begins, else only
/// those that are free.
pub(crate) fn share(mut cpu_bound: Vec<CpuBound>, new_slice: bool) {
    let group = |entry: &CpuBound| Arc::as_ptr(&entry.slots);
    cpu_bound.sort_by_key(|entry| (group(entry), entry.usage.cpu_total));
    for group in cpu_bound.chunk_by(|a, b| group(a) == group(b)) {
        let running = group
            .iter()
            .filter(|entry| !entry.isolate.activity().is_preempted())
            .count();
        let slots = group.first().map_or(0, |entry| entry.slots.count);
        let mut free = if new_slice {
            slots
        } else {
            slots.saturating_sub(running)
        };
        for CpuBound { isolate, .. } in group {
            let was_preempted = isolate.activity().is_preempted();
            if !new_slice && !was_preempted {
                continue;
            }
            let preempted = free == 0;
            free = free.saturating_sub(1);
            isolate.activity().set_preempted(preempted);
            if preempted && !was_preempted {
                isolate.interrupt();
            }
        }
    }
}
