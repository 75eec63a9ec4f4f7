//! Lets debuggers into an isolate; its clocks stop while one holds it.

use std::sync::Arc;

use deno_core::JsRuntime;
use deno_core::futures::channel::mpsc::UnboundedSender;
use parking_lot::Mutex;
use stockade_inspector::{Debuggers, Entrance, Inspector, Listed, Target, Watcher, leave};
use stockade_protocol::ProbeId;
use stockade_supervisor::{Clocks, DebugEntrance, DebugExit, GuestContext};

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

/// Lets debuggers into the only isolate of a worker, or into one of a trust group; they come over the message socket.
pub(crate) fn let_in(runtime: &mut JsRuntime, guest: &GuestContext, debuggers: Debuggers) {
    runtime.maybe_init_inspector();
    let watcher = Arc::new(HeldInWorker(guest.clocks()));
    guest.set_debug_entrance(Arc::new(WorkerEntrance {
        entrance: Entrance::new(runtime, debuggers, Some(watcher)),
        exit: guest.debug_exit(),
        open: Mutex::new(None),
    }));
}

/// One debugger at a time.
struct WorkerEntrance {
    entrance: Entrance,
    exit: DebugExit,
    open: Mutex<Option<(ProbeId, UnboundedSender<String>)>>,
}

impl DebugEntrance for WorkerEntrance {
    fn open(&self, id: ProbeId) {
        let exit = self.exit.clone();
        let session = self.entrance.open(move |text| {
            // The host closes a session that nobody wants.
            let _ = exit.send(id, &text);
        });
        match session {
            Some(session) => *self.open.lock() = Some((id, session)),
            None => self.exit.end(id),
        }
    }

    fn message(&self, id: ProbeId, text: String) {
        let open = self.open.lock();
        if let Some((_, session)) = open.as_ref().filter(|(own, _)| *own == id) {
            // The isolate may be gone.
            let _ = session.unbounded_send(text);
        }
    }

    fn close(&self, id: ProbeId) {
        if let Some((_, session)) = self.open.lock().take_if(|(own, _)| *own == id) {
            leave(&session);
            self.exit.end(id);
        }
    }
}

/// An isolate of a worker that debuggers may hold.
struct HeldInWorker(Clocks);

impl Watcher for HeldInWorker {
    fn paused(&self, paused: bool) {
        if paused {
            self.0.stop();
        } else {
            self.0.restart();
        }
    }

    // The isolate's thread frees it.
    fn spoke(&self, _bytes: usize) {}
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
