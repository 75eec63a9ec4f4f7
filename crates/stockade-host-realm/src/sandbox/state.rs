//! The sandboxes of one run and the isolates that live in them.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};

use deno_core::ExternalOpsTracker;
use stockade_config::Grant;
use stockade_grants::GrantError;
use stockade_instance::{GrantedGuest, GrantedServices, InstanceLimits, Takes};
use stockade_limits::{Isolation, SandboxOptions};
use stockade_protocol::{Payload, RequestId};
use stockade_supervisor::{
    Event, EventQueue, IsolateHandle, IsolationBackend, Supervisor, TerminateReason,
};

use super::account::{Account, Arrival, Given, Granted, IsolateKey, name_of};
use super::approvals::Approvals;
use super::opener::Opener;

/// While the host's heap is nearly full, nothing above this comes into it.
const SMALL: usize = 64 << 10;

/// What new sandboxes are made of.
#[derive(Clone)]
pub struct SandboxSetup {
    /// What `new V8Sandbox()` takes where the script says nothing.
    pub defaults: SandboxOptions,
    /// The ways of running isolates that exist in this program.
    pub backends: Vec<(Isolation, Arc<dyn IsolationBackend>)>,
    /// Is given each isolate that was created.
    pub created: Option<OnCreated>,
}

/// Receives each isolate that was created.
type OnCreated = Rc<dyn Fn(&IsolateHandle)>;

/// The sandboxes of one run, shared between the ops and the run's loop. Cheap to clone.
#[derive(Clone)]
pub struct Sandboxes(Rc<Inner>);

struct Inner {
    setup: SandboxSetup,
    list: RefCell<Vec<Sandbox>>,
    accounts: RefCell<HashMap<IsolateKey, Rc<Account>>>,
    /// What opens grants, once an isolate has some.
    grants: RefCell<Option<Opener>>,
    /// Isolates that have grants.
    granted: Cell<usize>,
    /// Whether the engine's event loop is kept alive because of isolates.
    held: Cell<bool>,
    /// What handlers hold of all isolates' data, by its cost.
    held_by_all: Cell<usize>,
    /// Isolates of which something waits for room.
    waiting: RefCell<VecDeque<IsolateKey>>,
    /// The host's heap is nearly full.
    pressed: Cell<bool>,
    /// There is something to give that has not been given.
    more: Cell<bool>,
    /// The waker of the run's loop.
    waker: RefCell<Waker>,
}

struct Sandbox {
    supervisor: Supervisor,
    queue: Arc<EventQueue>,
}

impl Sandboxes {
    /// None yet.
    #[must_use]
    pub fn new(setup: SandboxSetup) -> Self {
        Self(Rc::new(Inner {
            setup,
            list: RefCell::default(),
            accounts: RefCell::default(),
            grants: RefCell::default(),
            granted: Cell::new(0),
            held: Cell::new(false),
            held_by_all: Cell::new(0),
            waiting: RefCell::default(),
            pressed: Cell::new(false),
            more: Cell::new(false),
            waker: RefCell::new(Waker::noop().clone()),
        }))
    }

    pub(crate) fn defaults(&self) -> &SandboxOptions {
        &self.0.setup.defaults
    }

    /// Makes a sandbox and gives its index.
    pub(crate) fn add(&self, options: SandboxOptions) -> u32 {
        let sandbox = Sandbox {
            supervisor: Supervisor::new(options, self.0.setup.backends.iter().cloned()),
            queue: EventQueue::new(),
        };
        let mut list = self.0.list.borrow_mut();
        list.push(sandbox);
        u32::try_from(list.len() - 1).unwrap_or(u32::MAX)
    }

    pub(crate) fn get(&self, index: u32) -> Option<(Supervisor, Arc<EventQueue>)> {
        let list = self.0.list.borrow();
        let sandbox = list.get(index as usize)?;
        Some((sandbox.supervisor.clone(), Arc::clone(&sandbox.queue)))
    }

    /// Opens what an isolate is granted, and has it answer requests where `serving` has the limits of that; `None` where
    /// it is granted nothing and answers none.
    pub(crate) fn grant(
        &self,
        sandbox: u32,
        supervisor: &Supervisor,
        handle: &IsolateHandle,
        grants: &BTreeMap<String, Grant>,
        approvers: Vec<String>,
        serving: Option<InstanceLimits>,
    ) -> Result<Option<Granted>, GrantError> {
        if grants.is_empty() && serving.is_none() {
            return Ok(None);
        }

        let name = name_of((sandbox, handle.id()));
        let (approvals, of_grants) = Approvals::of(approvers);
        let mut opener = self.0.grants.borrow_mut();
        let (_within, opened) = if grants.is_empty() {
            (None, HashMap::new())
        } else {
            let opener = match &mut *opener {
                Some(opener) => opener,
                empty => empty.insert(Opener::new()?),
            };
            (opener.enter(), opener.open(&name, grants, &of_grants)?)
        };
        let guest = GrantedGuest::new(
            &name,
            supervisor.clone(),
            handle.clone(),
            Arc::new(GrantedServices::new(opened)),
            Takes::Bindings,
            serving.unwrap_or_default(),
        );
        let approvals = Rc::new(approvals);
        Ok(Some(Granted { guest, approvals }))
    }

    pub(crate) fn insert(&self, sandbox: u32, handle: IsolateHandle, granted: Option<Granted>) {
        if let Some(created) = &self.0.setup.created {
            created(&handle);
        }
        let key = (sandbox, handle.id());
        if granted.is_some() {
            self.0.granted.set(self.0.granted.get() + 1);
        }
        let account = Rc::new(Account::new(key, handle, granted));
        self.0.accounts.borrow_mut().insert(key, account);
    }

    /// The account of an isolate, by its sandbox's index and its number there.
    #[must_use]
    pub fn account(&self, key: IsolateKey) -> Option<Rc<Account>> {
        self.0.accounts.borrow().get(&key).cloned()
    }

    pub(crate) fn handle(&self, key: IsolateKey) -> Option<IsolateHandle> {
        self.account(key).map(|account| account.handle().clone())
    }

    /// Where the events of the sandbox with this index come; `None` past the last one.
    #[must_use]
    pub fn queue(&self, index: u32) -> Option<Arc<EventQueue>> {
        let list = self.0.list.borrow();
        list.get(index as usize)
            .map(|sandbox| Arc::clone(&sandbox.queue))
    }

    /// How many sandboxes there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        u32::try_from(self.0.list.borrow().len()).unwrap_or(u32::MAX)
    }

    /// Forgets an isolate that has sent its last event.
    pub fn forget(&self, key: IsolateKey) {
        let forgotten = self.0.accounts.borrow_mut().remove(&key);
        if let Some(account) = forgotten {
            if account.granted().is_some() {
                self.0.granted.set(self.0.granted.get() - 1);
                if let Some(grants) = &*self.0.grants.borrow() {
                    grants.forget(&name_of(key));
                }
            }
            // Handlers may hold data of it for a while: that counts for nobody any more.
            self.free(account.held());
        }
    }

    /// Whether any isolate of any sandbox has something to do, or something of one waits to be given.
    #[must_use]
    pub fn have_work(&self) -> bool {
        let list = self.0.list.borrow();
        // In this order: an answer of a grant is work before what was asked for is over.
        self.0.more.get()
            || self.await_grants()
            || list.iter().any(|sandbox| sandbox.queue.has_work())
    }

    /// Wakes the task when a guest no longer waits for a stream of a grant.
    pub fn watch_grants(&self, cx: &Context<'_>) {
        if self.0.granted.get() > 0 {
            let accounts = self.0.accounts.borrow();
            let granted = accounts.values().filter_map(|account| account.granted());
            granted.for_each(|guest| guest.watch(cx));
        }
    }

    /// Whether a call of a grant has no answer yet.
    fn await_grants(&self) -> bool {
        let busy = |account: &Rc<Account>| account.granted().is_some_and(GrantedGuest::is_busy);
        self.0.granted.get() > 0 && self.0.accounts.borrow().values().any(busy)
    }

    /// Keeps the engine's event loop alive: the script has just given an isolate something to do, or
    /// an event of one is sure to come.
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

/// What the run's loop gives to the script, and when.
impl Sandboxes {
    /// A turn of the loop begins, which gives what can be given. Notes whom to wake for the next one.
    pub fn turn_began(&self, waker: &Waker) {
        self.0.waker.borrow_mut().clone_from(waker);
        self.0.more.set(false);
    }

    /// The next turn finds something to give.
    pub fn more(&self) {
        self.0.more.set(true);
        self.0.waker.borrow().wake_by_ref();
    }

    /// Whether an isolate has ended, or was never there.
    #[must_use]
    pub fn has_ended(&self, key: IsolateKey) -> bool {
        self.handle(key).is_none_or(|handle| handle.end().is_some())
    }

    /// Takes an event of an isolate in, of which `place` bytes are taken in its queue.
    #[must_use]
    pub fn arrive(&self, account: &Account, event: Event, place: usize) -> Arrival {
        let waited = account.has_waiting();
        let arrival = account.arrive(event, place, |a, event, cost| self.ready(a, event, cost));
        if !waited && account.has_waiting() {
            self.0.waiting.borrow_mut().push_back(account.key());
        }
        if let Arrival::Now(given) = &arrival {
            self.note(given);
        }
        arrival
    }

    /// An event that waited and for which there is room now, of the next isolate that has one.
    #[must_use]
    pub fn next_waiting(&self) -> Option<(Rc<Account>, Given)> {
        let count = self.0.waiting.borrow().len();
        for _ in 0..count {
            let key = self.0.waiting.borrow_mut().pop_front()?;
            let Some(account) = self.account(key) else {
                continue;
            };
            let given = account.next(|a, event, cost| self.ready(a, event, cost));
            if account.has_waiting() {
                self.0.waiting.borrow_mut().push_back(key);
            }
            if let Some(given) = given {
                self.note(&given);
                return Some((account, given));
            }
        }
        None
    }

    /// Isolates whose handlers are at work, where something waits until some are done: handlers of events
    /// do not say it.
    #[must_use]
    pub fn unsettled(&self) -> Vec<IsolateKey> {
        if self.0.waiting.borrow().is_empty() {
            return Vec::new();
        }
        let accounts = self.0.accounts.borrow();
        let at_work = |(_, account): &(&IsolateKey, &Rc<Account>)| account.awaits_handlers();
        accounts
            .iter()
            .filter(at_work)
            .map(|(key, _)| *key)
            .collect()
    }

    fn ready(&self, account: &Account, event: &Event, cost: usize) -> bool {
        if (self.0.pressed.get() && cost > SMALL) || !account.fits(cost, self.0.held_by_all.get()) {
            return false;
        }
        // What it is to be answered must not pile up in the host: it first takes what is there for it.
        !matches!(event, Event::Request { .. })
            || account
                .handle()
                .poll_drained(&mut Context::from_waker(&self.0.waker.borrow()))
                .is_ready()
    }

    /// A handler has it from here on.
    fn note(&self, given: &Given) {
        if given.handled {
            self.take_up(given.cost);
        }
    }

    /// What handlers hold of all isolates' data together, by its cost.
    #[must_use]
    pub fn held(&self) -> usize {
        self.0.held_by_all.get()
    }

    fn take_up(&self, cost: usize) {
        let sum = self.0.held_by_all.get().saturating_add(cost);
        self.0.held_by_all.set(sum);
    }

    fn free(&self, cost: usize) {
        let left = self.0.held_by_all.get().saturating_sub(cost);
        self.0.held_by_all.set(left);
        if cost > 0 && !self.0.waiting.borrow().is_empty() {
            self.more();
        }
    }

    /// Handlers of an event hold so much until they have come to their end.
    pub(crate) fn hold_data(&self, key: IsolateKey, cost: usize) {
        if let Some(account) = self.account(key) {
            account.hold(cost);
            self.take_up(cost);
        }
    }

    /// Handlers of events have come to their end.
    pub(crate) fn let_data_go(&self, key: IsolateKey, cost: usize) {
        if let Some(account) = self.account(key) {
            self.free(account.let_go(cost));
        }
    }

    /// A request was answered.
    pub(crate) fn answered(&self, key: IsolateKey, id: RequestId) {
        if let Some(account) = self.account(key) {
            self.free(account.answered(id));
        }
    }

    /// The guest has given a request up; whether it still waited for its handler.
    pub(crate) fn withdraw(&self, key: IsolateKey, id: RequestId) -> bool {
        let Some(account) = self.account(key) else {
            return false;
        };
        let withdrawn = account.withdraw(id);
        if withdrawn && !account.has_waiting() {
            // It comes again with the next event that waits, once.
            self.0.waiting.borrow_mut().retain(|other| *other != key);
        }
        withdrawn
    }
}

/// The last check before V8 ends the process for want of heap.
impl Sandboxes {
    /// Called within a garbage collection that could not bring the host's heap below its limit: ends the
    /// isolate that has most of it and says whether there was one. `least` is what one must have.
    pub fn heap_is_full(&self, least: usize) -> bool {
        self.0.pressed.set(true);
        // In use only where it is being changed, for which V8 is not asked for memory.
        let Ok(accounts) = self.0.accounts.try_borrow() else {
            return true;
        };
        let most = (accounts.values())
            .filter(|account| account.handle().end().is_none())
            .max_by(|a, b| a.blame().total_cmp(&b.blame()));
        let Some(account) = most.filter(|account| account.blame() >= least as f64) else {
            return false;
        };
        let bytes = account.blame() as usize;
        account.handle().terminate(
            TerminateReason::MemoryLimit,
            format!("its host's heap is full, and about {bytes} bytes there are of this isolate"),
        );
        true
    }

    /// Whether the host's heap is nearly full.
    #[must_use]
    pub fn pressed(&self) -> bool {
        self.0.pressed.get()
    }

    /// The host's heap has room again.
    pub fn relieved(&self) {
        self.0.pressed.set(false);
    }

    /// Whether a value may come into the host's heap now.
    pub(crate) fn admits(&self, key: IsolateKey, data: &Payload) -> bool {
        let cost = data.weigh().total();
        if let Some(account) = self.account(key) {
            account.note_given(cost);
        }
        !(self.0.pressed.get() && cost > SMALL)
    }
}
