//! What an isolate does when it has had nothing to do for a while: it gives memory back.

use std::task::Context;
use std::time::{Duration, Instant};

use stockade_protocol::ToIsolate;

use super::Isolate;
use crate::initialize::is_single_threaded;
use crate::port::Collect;
use crate::sys::guard::{held_memory, measure_memory};

/// How long an isolate must have had nothing to do before it gives memory back.
const REST: Duration = Duration::from_secs(2);

/// Bytes that an isolate must have gained since its start before it gives memory back in a copy of a prepared process:
/// collecting garbage writes to about 1 MB of memory that the copy shares with its original until then.
const WORTH_COLLECTING: u64 = 2 << 20;

impl Isolate {
    /// Gives memory back once the isolate has had nothing to do for a while: what it used before may be
    /// garbage, and new space may be larger than an idle isolate needs. True if garbage was collected: what that
    /// leaves to be done (callbacks of a `FinalizationRegistry`) needs a turn of the event loop.
    pub(super) fn rest(&mut self, cx: &mut Context<'_>, worked: bool) -> bool {
        if worked {
            self.last_work = Instant::now();
            self.rested = false;
        }
        if self.rested {
            return false;
        }
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(REST)));
        while timer.as_mut().poll(cx).is_ready() {
            let idle_for = self.last_work.elapsed();
            if idle_for >= REST {
                self.timer = None;
                self.rested = true;
                if !self.is_worth_collecting() {
                    return false;
                }
                self.realm.runtime.v8_isolate().low_memory_notification();
                self.port.collected();
                measure_memory(self.realm.runtime.v8_isolate());
                return true;
            }
            timer
                .as_mut()
                .reset(tokio::time::Instant::now() + (REST - idle_for));
        }
        false
    }

    /// Whether a message has parts: the guest may drop a stream unread, which the host then holds until garbage is
    /// collected.
    pub(super) fn note_parts(&mut self, message: &ToIsolate) {
        self.got_parts |= match message {
            ToIsolate::Event { data, .. }
            | ToIsolate::Control { data, .. }
            | ToIsolate::Answer {
                result: Ok(data), ..
            }
            | ToIsolate::Call { args: data, .. } => data.marked,
            _ => false,
        };
    }

    /// Whether an idle isolate may give back more than that costs.
    fn is_worth_collecting(&mut self) -> bool {
        if !is_single_threaded() || self.port.collection() != Collect::No || self.got_parts {
            return true;
        }
        let held = held_memory(self.realm.runtime.v8_isolate());
        held > self.held_at_start.saturating_add(WORTH_COLLECTING)
    }
}
