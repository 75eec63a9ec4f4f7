//! What the host's V8 holds of one isolate's messages, and what waits because it holds enough.
//!
//! Invariants:
//! 1. Data stays text until a handler takes it.
//! 2. A message or request is given to its handlers when what handlers still hold leaves room for what it
//!    costs in the host's heap. Until then it waits, in order, and keeps its place in the queue.
//! 3. The more all isolates hold together, the less one may: what it holds is never more than what is
//!    left for all. So one that asks for little finds room while others take all they get.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use deno_core::v8;
use rustc_hash::FxHashMap;
use stockade_instance::GrantedGuest;
use stockade_protocol::bounds::MAX_MESSAGE_VALUES;
use stockade_protocol::{Payload, RequestId};
use stockade_supervisor::{Event, IsolateHandle};

use super::approvals::Approvals;
use super::stash::Stash;

/// A sandbox's index and an isolate's number in it.
pub type IsolateKey = (u32, u32);

/// The name of an isolate in the records of its grants. No other isolate of the run has it.
pub(super) fn name_of((sandbox, isolate): IsolateKey) -> String {
    format!("sandbox {sandbox}, isolate {isolate}")
}

/// What handlers may hold of one isolate's data, by its cost in the host's heap.
const MAX_HELD: usize = 64 << 20;

/// What they may hold of all isolates' data together.
const MAX_HELD_BY_ALL: usize = 256 << 20;

/// What they may hold of one isolate's data however much they hold of others'.
const ALWAYS: usize = 256 << 10;

/// A handler that is at work costs this much besides its data.
pub(super) const HANDLER: usize = 1 << 10;

/// The event by which a guest asks for a WebSocket. It is not kept for a handler: without one the script
/// refuses it, for the guest's socket would wait for ever.
const OPENS_SOCKET: &str = "ws.open";

/// After this long, what an isolate has given counts for half.
const HALF_LIFE: Duration = Duration::from_secs(4);

/// What an isolate gives is reckoned up when it has given so much.
const RECKONED: usize = 1 << 20;

/// A function of the script that passes the messages of one event to its handlers: `(data, marked, cost)`.
pub type Receiver = Rc<v8::Global<v8::Function>>;

/// An event that may be given to the script.
pub struct Given {
    /// What happened.
    pub event: Event,
    /// Its place in the isolate's queue, for [`IsolateHandle::release`].
    pub place: usize,
    /// What it costs in the host's heap.
    pub cost: usize,
    /// What takes it, where it is a message.
    pub receiver: Option<Receiver>,
    /// Whether the script has a handler for it, where it is a request.
    pub handled: bool,
}

/// What becomes of an event.
pub enum Arrival {
    /// It is given to the script now.
    Now(Given),
    /// It was kept for later.
    Kept,
    /// It was lost; the script gets this sentence.
    Lost(String),
    /// It is given to the script now, after this sentence about others.
    After(String, Given),
    /// No honest isolate sends it.
    Breach(String),
}

/// What an isolate is granted, and what is asked about its calls.
pub(crate) struct Granted {
    pub(super) guest: GrantedGuest,
    pub(super) approvals: Rc<Approvals>,
}

/// One isolate's account with its host.
pub struct Account {
    key: IsolateKey,
    handle: IsolateHandle,
    /// What the isolate is granted.
    granted: Option<Granted>,
    /// By the names of their events, which the script chooses: a guest cannot have them collide.
    receivers: RefCell<FxHashMap<String, Receiver>>,
    methods: RefCell<HashSet<String>>,
    stash: RefCell<Stash>,
    waiting: RefCell<VecDeque<(Event, usize, usize)>>,
    /// Requests that their handlers have, with their costs.
    open: RefCell<HashMap<RequestId, usize>>,
    /// What those cost together.
    requests: Cell<usize>,
    /// What handlers of events cost that have not come to their end.
    handlers: Cell<usize>,
    /// What it has given of late, and when that was reckoned.
    given: Cell<(f64, Instant)>,
    /// What it has given since then.
    recent: Cell<usize>,
}

impl Account {
    pub(super) fn new(key: IsolateKey, handle: IsolateHandle, granted: Option<Granted>) -> Self {
        Self {
            key,
            handle,
            granted,
            receivers: RefCell::default(),
            methods: RefCell::default(),
            stash: RefCell::default(),
            waiting: RefCell::default(),
            open: RefCell::default(),
            requests: Cell::new(0),
            handlers: Cell::new(0),
            given: Cell::new((0.0, Instant::now())),
            recent: Cell::new(0),
        }
    }

    /// The index of its sandbox, and the number of the isolate there.
    #[must_use]
    pub fn key(&self) -> IsolateKey {
        self.key
    }

    /// The handle of the isolate.
    #[must_use]
    pub fn handle(&self) -> &IsolateHandle {
        &self.handle
    }

    /// What the isolate is granted, whose messages are not the script's.
    #[must_use]
    pub fn granted(&self) -> Option<&GrantedGuest> {
        self.granted.as_ref().map(|granted| &granted.guest)
    }

    /// What is asked about the isolate's calls.
    pub(super) fn approvals(&self) -> Option<Rc<Approvals>> {
        let granted = self.granted.as_ref();
        granted.map(|granted| Rc::clone(&granted.approvals))
    }

    /// Messages of an event go to this function from now on; says whether some of it are kept.
    pub(super) fn handle_event(&self, event: String, receiver: v8::Global<v8::Function>) -> bool {
        let kept = self.stash.borrow().has(&event);
        let receiver = Rc::new(receiver);
        self.receivers.borrow_mut().insert(event, receiver);
        kept
    }

    /// The script has no handler for an event any more.
    pub(super) fn ignore_event(&self, event: &str) {
        self.receivers.borrow_mut().remove(event);
    }

    fn receiver(&self, event: &Event) -> Option<Receiver> {
        match event {
            Event::Message { name, .. } => self.receivers.borrow().get(name).cloned(),
            _ => None,
        }
    }

    /// Notes that the script answers a method.
    pub(super) fn handle_method(&self, method: String) {
        self.methods.borrow_mut().insert(method);
    }

    pub(super) fn unstash(&self, event: &str) -> Option<Payload> {
        self.stash.borrow_mut().take(event)
    }

    pub(super) fn held(&self) -> usize {
        self.requests.get().saturating_add(self.handlers.get())
    }

    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.borrow().is_empty()
    }

    /// Whether handlers of events are at work.
    pub(super) fn awaits_handlers(&self) -> bool {
        self.handlers.get() > 0
    }

    /// Whether there is room for an event of this cost.
    pub(super) fn fits(&self, cost: usize, held_by_all: usize) -> bool {
        fits(cost, self.held(), held_by_all)
    }

    /// Takes an event from the queue in, of which `place` bytes are taken there.
    pub(super) fn arrive(
        &self,
        event: Event,
        place: usize,
        ready: impl Fn(&Self, &Event, usize) -> bool,
    ) -> Arrival {
        let data = match &event {
            Event::Message { data, .. }
            | Event::Request { data, .. }
            | Event::Control { data, .. } => data,
            Event::Console { .. } | Event::Uncaught(_) => return now(event, place),
            Event::Terminated { .. } | Event::Destroyed(_) => return self.ended(event, place),
        };
        let weight = data.weigh_at_most();
        if weight.values > MAX_MESSAGE_VALUES {
            return Arrival::Breach(format!(
                "a message whose values take {} bytes of heap; the limit is {MAX_MESSAGE_VALUES}",
                weight.values
            ));
        }
        if matches!(event, Event::Control { .. }) {
            self.note_given(weight.total());
            return now(event, place);
        }
        let cost = weight.total().saturating_add(HANDLER);
        let waits = self.has_waiting();
        let receiver = self.receiver(&event);
        match event {
            Event::Message { name, data }
                if !waits && receiver.is_none() && name != OPENS_SOCKET =>
            {
                self.handle.release(place);
                match self.stash.borrow_mut().put(name, data) {
                    Some(sentence) => Arrival::Lost(sentence),
                    None => Arrival::Kept,
                }
            }
            event if waits || !ready(self, &event, cost) => {
                self.waiting.borrow_mut().push_back((event, place, cost));
                Arrival::Kept
            }
            event => Arrival::Now(self.give(event, place, cost, receiver)),
        }
    }

    /// The isolate is gone: what still waited for its handlers is lost with it.
    fn ended(&self, event: Event, place: usize) -> Arrival {
        let lost = std::mem::take(&mut *self.waiting.borrow_mut());
        let mut messages = 0;
        for (event, place, _) in lost {
            self.handle.release(place);
            messages += usize::from(matches!(event, Event::Message { .. }));
        }
        match now(event, place) {
            Arrival::Now(given) if messages > 0 => Arrival::After(
                format!(
                    "{messages} messages are lost: the isolate ended while its host's handlers held {} bytes of its data",
                    self.held()
                ),
                given,
            ),
            other => other,
        }
    }

    /// The next event that waited, if there is room for it.
    pub(super) fn next(&self, ready: impl Fn(&Self, &Event, usize) -> bool) -> Option<Given> {
        let mut waiting = self.waiting.borrow_mut();
        let (event, place, cost) = waiting.pop_front()?;
        if !ready(self, &event, cost) {
            waiting.push_front((event, place, cost));
            return None;
        }
        drop(waiting);
        let receiver = self.receiver(&event);
        Some(self.give(event, place, cost, receiver))
    }

    fn give(&self, event: Event, place: usize, cost: usize, receiver: Option<Receiver>) -> Given {
        let handled = match &event {
            Event::Request { id, method, .. } => {
                let handled = self.methods.borrow().contains(method);
                if handled {
                    self.open.borrow_mut().insert(*id, cost);
                    self.requests.set(self.requests.get().saturating_add(cost));
                }
                handled
            }
            _ => false,
        };
        self.note_given(cost);
        Given {
            event,
            place,
            cost,
            receiver,
            handled,
        }
    }

    /// Takes a request back that waits: the guest has given it up.
    pub(super) fn withdraw(&self, id: RequestId) -> bool {
        let mut waiting = self.waiting.borrow_mut();
        let found = waiting
            .iter()
            .position(|(event, ..)| matches!(event, Event::Request { id: of, .. } if *of == id));
        let Some((_, place, _)) = found.and_then(|at| waiting.remove(at)) else {
            return false;
        };
        self.handle.release(place);
        true
    }

    /// Handlers of events are at work that hold so much.
    pub(super) fn hold(&self, cost: usize) {
        self.handlers.set(self.handlers.get().saturating_add(cost));
    }

    /// Such handlers came to their end; gives what they had held.
    pub(super) fn let_go(&self, cost: usize) -> usize {
        let cost = cost.min(self.handlers.get());
        self.handlers.set(self.handlers.get() - cost);
        cost
    }

    /// A request was answered; gives what its handler had held.
    pub(super) fn answered(&self, id: RequestId) -> usize {
        let cost = self.open.borrow_mut().remove(&id).unwrap_or(0);
        self.requests.set(self.requests.get().saturating_sub(cost));
        cost
    }

    /// Notes what came into the host's heap from it.
    pub(super) fn note_given(&self, cost: usize) {
        let recent = self.recent.get().saturating_add(cost);
        if recent < RECKONED {
            self.recent.set(recent);
            return;
        }
        let (given, at) = self.given.get();
        let now = Instant::now();
        let given = faded(given, now - at) + recent as f64;
        self.given.set((given, now));
        self.recent.set(0);
    }

    /// How much of the host's heap is likely to be its doing.
    pub(super) fn blame(&self) -> f64 {
        let (given, at) = self.given.get();
        faded(given, at.elapsed()) + self.recent.get() as f64 + self.held() as f64
    }
}

/// Whether handlers that hold so much of an isolate's data, and so much of all isolates', may have more.
fn fits(cost: usize, held: usize, held_by_all: usize) -> bool {
    // However dear a message, it fits when nothing else is held.
    let cost = cost.min(MAX_HELD_BY_ALL / 2);
    let after = held.saturating_add(cost);
    let free = MAX_HELD_BY_ALL.saturating_sub(held_by_all);
    after <= ALWAYS || (after <= free && (held == 0 || after <= MAX_HELD))
}

fn now(event: Event, place: usize) -> Arrival {
    Arrival::Now(Given {
        event,
        place,
        cost: 0,
        receiver: None,
        handled: false,
    })
}

fn faded(given: f64, time: Duration) -> f64 {
    given * 0.5_f64.powf(time.as_secs_f64() / HALF_LIFE.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fits_one_of_any_size_while_nothing_is_held() {
        assert!(fits(usize::MAX, 0, 0));
        assert!(!fits(usize::MAX, 1, 1));
        assert!(!fits(MAX_HELD, 1, 1));
        assert!(fits(MAX_HELD - 1, 1, 1));
    }

    #[test]
    fn fits_little_however_much_others_hold() {
        assert!(fits(ALWAYS, 0, usize::MAX));
        assert!(!fits(ALWAYS, 1, usize::MAX));
        assert!(!fits(ALWAYS + 1, 0, usize::MAX));
    }

    #[test]
    fn isolates_that_take_all_they_get_leave_room_for_one_more() {
        const COST: usize = 1 << 20;
        let mut held = [0_usize; 9];
        for _ in 0..1000 {
            for i in 0..held.len() {
                let all = held.iter().sum();
                if fits(COST, held[i], all) {
                    held[i] += COST;
                }
            }
        }
        let all: usize = held.iter().sum();
        assert!(all <= MAX_HELD_BY_ALL);
        assert!(fits(16 * COST, 0, all), "{all} bytes are held");
    }

    #[test]
    fn what_was_given_counts_for_less_with_time() {
        let half = faded(100.0, HALF_LIFE);
        assert!((half - 50.0).abs() < 1e-6);
        assert!(faded(100.0, 10 * HALF_LIFE) < 0.1);
    }
}
