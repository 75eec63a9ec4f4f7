//! Lets debuggers into an isolate; its clocks stop while one holds it.

use std::sync::Arc;

use deno_core::JsRuntime;
use stockade_inspector::{Debuggers, Inspector, Listed, Target, Watcher};
use stockade_supervisor::{Clocks, GuestContext};

use crate::sys::alloc::charge;

/// Lists the isolate of this guest until the result is dropped.
pub(crate) fn list(
    inspector: &Inspector,
    runtime: &JsRuntime,
    guest: &GuestContext,
    debuggers: Debuggers,
) -> Listed {
    let id = guest.id();
    let title = match &guest.options().name {
        Some(name) => format!("isolate #{id} {name}"),
        None => format!("isolate #{id}"),
    };
    let target = Target {
        title,
        url: format!("stockade:isolate/{id}"),
    };
    let watcher = Arc::new(Held(guest.clocks()));
    inspector.register(runtime, target, debuggers, Some(watcher))
}

/// An isolate that debuggers may hold.
struct Held(Clocks);

impl Watcher for Held {
    fn paused(&self, paused: bool) {
        if paused {
            self.0.stop();
        } else {
            self.0.restart();
        }
    }

    fn spoke(&self, bytes: usize) {
        // The debugger's server frees it.
        charge(-(bytes as i64));
    }
}
