//! The sandboxes of one run and the isolates that live in them.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use deno_core::ExternalOpsTracker;
use stockade_policy::{Isolation, SandboxOptions};
use stockade_supervisor::{Handle, Hub, Supervisor, Wall};

/// What new sandboxes are made of.
#[derive(Clone)]
pub struct SandboxSetup {
    /// What `new V8Sandbox()` takes where the script says nothing.
    pub defaults: SandboxOptions,
    /// The ways of running isolates that exist in this program.
    pub walls: Vec<(Isolation, Arc<dyn Wall>)>,
}

/// The sandboxes of one run, shared between the ops and the run's loop. Cheap to clone.
#[derive(Clone)]
pub struct Sandboxes(Rc<Inner>);

struct Inner {
    setup: SandboxSetup,
    list: RefCell<Vec<Sandbox>>,
    handles: RefCell<HashMap<Key, Handle>>,
    /// Whether the engine's event loop is kept alive because of isolates.
    held: Cell<bool>,
}

/// A sandbox's index and an isolate's number in it.
pub(crate) type Key = (u32, u32);

struct Sandbox {
    supervisor: Supervisor,
    hub: Arc<Hub>,
}

impl Sandboxes {
    /// None yet.
    #[must_use]
    pub fn new(setup: SandboxSetup) -> Self {
        Self(Rc::new(Inner {
            setup,
            list: RefCell::default(),
            handles: RefCell::default(),
            held: Cell::new(false),
        }))
    }

    pub(crate) fn defaults(&self) -> &SandboxOptions {
        &self.0.setup.defaults
    }

    /// Makes a sandbox and gives its index.
    pub(crate) fn add(&self, options: SandboxOptions) -> u32 {
        let sandbox = Sandbox {
            supervisor: Supervisor::new(options, self.0.setup.walls.iter().cloned()),
            hub: Hub::new(),
        };
        let mut list = self.0.list.borrow_mut();
        list.push(sandbox);
        u32::try_from(list.len() - 1).unwrap_or(u32::MAX)
    }

    pub(crate) fn get(&self, index: u32) -> Option<(Supervisor, Arc<Hub>)> {
        let list = self.0.list.borrow();
        let sandbox = list.get(index as usize)?;
        Some((sandbox.supervisor.clone(), Arc::clone(&sandbox.hub)))
    }

    pub(crate) fn insert(&self, sandbox: u32, handle: Handle) {
        let key = (sandbox, handle.id());
        self.0.handles.borrow_mut().insert(key, handle);
    }

    pub(crate) fn handle(&self, key: Key) -> Option<Handle> {
        self.0.handles.borrow().get(&key).cloned()
    }

    /// Where the events of the sandbox with this index come; `None` past the last one.
    #[must_use]
    pub fn hub(&self, index: u32) -> Option<Arc<Hub>> {
        let list = self.0.list.borrow();
        list.get(index as usize)
            .map(|sandbox| Arc::clone(&sandbox.hub))
    }

    /// Forgets an isolate that has told its last event.
    pub fn forget(&self, sandbox: u32, isolate: u32) {
        let forgotten = self.0.handles.borrow_mut().remove(&(sandbox, isolate));
        drop(forgotten);
    }

    /// Whether any isolate of any sandbox has something to do.
    #[must_use]
    fn have_work(&self) -> bool {
        let list = self.0.list.borrow();
        list.iter().any(|sandbox| sandbox.hub.has_work())
    }

    /// Keeps the engine's event loop alive: the script has just given an isolate something to do.
    pub(crate) fn hold(&self, tracker: &ExternalOpsTracker) {
        if !self.0.held.replace(true) {
            tracker.ref_op();
        }
    }

    /// Keeps the engine's event loop alive while any isolate has something to do, and no longer.
    pub fn update_hold(&self, tracker: &ExternalOpsTracker) {
        if self.have_work() {
            self.hold(tracker);
        } else if self.0.held.replace(false) {
            tracker.unref_op();
        }
    }

    /// Ends every isolate of every sandbox.
    pub fn shutdown(&self) {
        for sandbox in self.0.list.borrow().iter() {
            sandbox.supervisor.shutdown();
        }
    }
}
