//! The last check before V8 ends the process: the host's heap is nearly full.
//!
//! V8 asks once more before it gives up. It then gets more room, and the isolate that has most of the heap
//! is ended. Where no isolate has much of it, the script itself has: then V8 ends the process, as it does
//! without guests.

use std::task::Context;
use std::time::Instant;

use deno_core::{JsRuntime, v8};
use stockade_host_realm::Sandboxes;

use crate::events::Pause;

/// What the heap gets beyond its limit each time: the dearest message fits, whatever its shape.
const MORE: usize = 768 << 20;

/// An isolate that has less than this part of the heap is not to blame.
const BLAME: usize = 32;

/// The host's heap and its limit.
pub(crate) struct Heap {
    /// What the limit is where nothing is wrong.
    limit: usize,
    /// Garbage is not collected again before then.
    collect: Pause,
}

impl Heap {
    /// Watches the heap of `runtime`.
    pub(crate) fn watch(runtime: &mut JsRuntime, sandboxes: &Sandboxes) -> Self {
        let limit = runtime.v8_isolate().get_heap_statistics().heap_size_limit();
        listen(runtime, sandboxes);
        Self {
            limit,
            collect: Pause::default(),
        }
    }

    /// Where the heap was nearly full, looks whether it has room again, and gives it its limit back.
    pub(crate) fn relieve(
        &mut self,
        runtime: &mut JsRuntime,
        sandboxes: &Sandboxes,
        cx: &mut Context<'_>,
    ) {
        if !sandboxes.pressed() || self.collect.poll(cx).is_pending() {
            return;
        }
        let began = Instant::now();
        runtime.v8_isolate().low_memory_notification();
        if used(runtime) < self.limit / 4 * 3 {
            // V8 has no other way to lower a limit.
            runtime.remove_near_heap_limit_callback(self.limit);
            listen(runtime, sandboxes);
            sandboxes.relieved();
            cx.waker().wake_by_ref();
            return;
        }
        self.collect.took(began.elapsed());
        // For the wake-up.
        let _ = self.collect.poll(cx);
    }
}

fn used(runtime: &mut JsRuntime) -> usize {
    let statistics: v8::HeapStatistics = runtime.v8_isolate().get_heap_statistics();
    statistics.used_heap_size()
}

fn listen(runtime: &mut JsRuntime, sandboxes: &Sandboxes) {
    let sandboxes = sandboxes.clone();
    runtime.add_near_heap_limit_callback(move |current, initial| {
        if sandboxes.heap_is_full(initial / BLAME) {
            current.saturating_add(MORE)
        } else {
            current
        }
    });
}
