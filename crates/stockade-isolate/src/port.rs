//! Passes the messages of the guest's realm to its context.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use stockade_inspector::Debuggers;
use stockade_limits::ConsoleMode;
use stockade_protocol::{FromIsolate, Payload};
use stockade_realm::GuestPort;
use stockade_supervisor::GuestContext;

use crate::sys::alloc::charge;

/// An event that no handler has taken, and what it holds of the queue.
pub(crate) struct Kept {
    pub(crate) name: String,
    pub(crate) data: Payload,
    pub(crate) size: usize,
}

/// Whether the guest wants garbage collected.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Collect {
    #[default]
    No,
    Soon,
    Now,
}

/// The way of the guest's realm to its context.
pub(crate) struct Port {
    pub(crate) guest: Rc<GuestContext>,
    /// Events without a handler, by name, in order.
    kept: RefCell<HashMap<String, VecDeque<Kept>>>,
    /// Names for which a handler has come while events were kept.
    listened: RefCell<Vec<String>>,
    /// Whether garbage is to be collected.
    collect: Cell<Collect>,
    /// Where debuggers are let in.
    debuggers: Option<Debuggers>,
    /// Calls of the console that debuggers got since the engine last forgot them.
    shown: Cell<u32>,
}

/// Calls of the console whose arguments the engine keeps for debuggers, at most. It keeps them as long as a debugger is there
/// otherwise, and the guest would come to its memory limit only because it is debugged.
const KEPT_CALLS: u32 = 1000;

impl Port {
    pub(crate) fn new(guest: Rc<GuestContext>, debuggers: Option<Debuggers>) -> Self {
        Self {
            guest,
            kept: RefCell::default(),
            listened: RefCell::default(),
            collect: Cell::default(),
            debuggers,
            shown: Cell::default(),
        }
    }

    /// Keeps an event until a handler comes.
    pub(crate) fn keep(&self, event: Kept) {
        self.kept
            .borrow_mut()
            .entry(event.name.clone())
            .or_default()
            .push_back(event);
    }

    /// Events of this name are kept: a new one goes behind them.
    pub(crate) fn keeps(&self, name: &str) -> bool {
        let kept = self.kept.borrow();
        !kept.is_empty() && kept.contains_key(name)
    }

    /// Whether garbage is to be collected.
    pub(crate) fn collection(&self) -> Collect {
        self.collect.get()
    }

    /// Garbage has been collected.
    pub(crate) fn collected(&self) {
        self.collect.set(Collect::No);
    }

    /// Events for which a handler has come since the last call.
    pub(crate) fn take_listened(&self) -> VecDeque<Kept> {
        let names = std::mem::take(&mut *self.listened.borrow_mut());
        let mut kept = self.kept.borrow_mut();
        names
            .iter()
            .filter_map(|name| kept.remove(name))
            .flatten()
            .collect()
    }
}

impl GuestPort for Port {
    fn send(&self, message: FromIsolate) -> Result<(), String> {
        if matches!(message, FromIsolate::Console { .. })
            && self.guest.options().console == ConsoleMode::Silent
        {
            return Ok(());
        }
        // The message is the host's from here on.
        charge(-(message.size() as i64));
        self.guest.send(message).map_err(|error| error.to_string())
    }

    fn send_part(&self, name: &str, json: String, part: &[u8]) -> Result<(), String> {
        // A host in this process keeps what this thread allocates for it; for another one nothing is kept.
        if !self.guest.is_in_worker() {
            charge(-((json.len() + part.len()) as i64));
        }
        let sent = self.guest.send_part(name, json, part);
        sent.map_err(|error| error.to_string())
    }

    fn listen(&self, event: &str) {
        if self.keeps(event) {
            self.listened.borrow_mut().push(event.to_owned());
        }
    }

    fn collect(&self, now: bool) {
        if now {
            self.collect.set(Collect::Now);
        } else if self.collect.get() == Collect::No {
            self.collect.set(Collect::Soon);
        }
    }

    fn shows_debugger(&self) -> bool {
        let Some(debuggers) = self.debuggers.as_ref().filter(|all| all.is_attached()) else {
            return false;
        };
        let shown = self.shown.get() + 1;
        if shown >= KEPT_CALLS {
            debuggers.forget_console();
        }
        self.shown.set(shown % KEPT_CALLS);
        true
    }
}
