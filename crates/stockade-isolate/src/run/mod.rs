//! The loop of one isolate: messages in, JavaScript, the event loop, and again.
//!
//! - `main_module`: the module that runs first. - `messages`: what is done with each message.
//! - `rest`: memory that an idle isolate gives back.
//!
//! Invariant: JavaScript runs only between `GuestContext::begin` and `GuestContext::end`.

mod main_module;
mod messages;
mod rest;

use std::collections::{HashSet, VecDeque};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use deno_core::PollEventLoopOptions;
use deno_core::error::CoreError;
use stockade_inspector::{Debuggers, Inspector};
use stockade_protocol::{CallId, FromIsolate, GuestError, ToIsolate};
use stockade_realm::GuestPort;
use stockade_supervisor::{GuestContext, StartError};

use self::main_module::Main;
use crate::debug;
use crate::error::{awaits_at_top_level, core_error};
use crate::initialize::{is_single_threaded, run_engine_tasks};
use crate::modules::session;
use crate::port::{Collect, Port};
use crate::probe::Probes;
use crate::realm::Realm;
use crate::script::Prelude;
use crate::spins::Spins;
use crate::sys::alloc::charge;
use crate::sys::guard::{Guard, held_memory, measure_memory, wind_down};
use crate::sys::interrupt::V8InterruptHandle;

/// Messages handled before timers and operations get their turn.
const BATCH: usize = 64;

/// Consecutive messages share one activation while it is shorter than this.
const SHORT: Duration = Duration::from_millis(1);

/// After a garbage collection that the guest wanted, it gets the next one after this many times its duration.
const COLLECTION_SHARE: u32 = 9;

/// How often a turn goes round because the engine had put something off.
const MOST_ROUNDS: u32 = 8;

/// How often an idle isolate with shared memory runs what its engine has put off.
const ENGINE_TIMER: Duration = Duration::from_millis(5);

/// Short activations between two measurements of the isolate's memory.
const MEASURE_EVERY: u32 = 64;

/// How often the engine must say that a module waits at its top level: it says so, too, of one that has
/// just come to its end.
const STALLED: u32 = 4;

/// How long the thread looks for the next message before it sleeps, where it has just had one: waking
/// a sleeping thread costs more than most messages.
const SPIN: Duration = Duration::from_micros(20);

/// As [`SPIN`], behind a socket, where the host takes longer to answer; [`Spins`] says when.
const SPIN_IN_WORKER: Duration = Duration::from_micros(50);

/// Runs the isolate of this guest until its end.
pub(crate) async fn run(
    mut realm: Realm,
    guest: Rc<GuestContext>,
    native: Arc<AtomicI64>,
    inspector: Option<Inspector>,
) {
    let lets_in = guest.is_in_worker() && guest.options().inspect;
    let debuggers = (inspector.is_some() || lets_in).then(Debuggers::default);
    let handle = realm.runtime.v8_isolate().thread_safe_handle();
    let interrupt = V8InterruptHandle::new(handle, debuggers.clone());
    guest.set_interrupt_handle(interrupt.clone());
    let context = Rc::new(realm.runtime.main_context());
    let probes = Probes::new(
        Rc::clone(&guest),
        Rc::clone(&realm.modules),
        Rc::clone(&context),
    );
    let guard = Guard {
        guest: Rc::clone(&guest),
        interrupt: Arc::clone(&interrupt),
        buffers: Arc::clone(&realm.buffers),
        native: Arc::clone(&native),
        context,
        probe: {
            let probes = Rc::clone(&probes);
            Rc::new(move |isolate| probes.interrupted(isolate))
        },
    };
    let entered = guard.enter();
    let port = Rc::new(Port::new(Rc::clone(&guest), debuggers.clone()));
    let is_debuggable = debuggers.is_some();
    if let Err(what) = realm.start(Rc::clone(&port), guest.options(), is_debuggable) {
        guest.started(Err(does_not_start(what)));
        return;
    }
    if let Some(debuggers) = debuggers.clone().filter(|_| lets_in) {
        debug::let_in(&mut realm.runtime, &guest, debuggers);
    }
    let listed = inspector
        .zip(debuggers)
        .map(|(inspector, debuggers)| debug::list(&inspector, &realm.runtime, &guest, debuggers));
    guest.started(Ok(()));
    // What an empty isolate holds is not the guest's.
    native.store(0, Ordering::Relaxed);
    Isolate::new(realm, guest, port, probes, interrupt)
        .live()
        .await;
    drop(listed);
    drop(entered);
}

fn does_not_start(what: String) -> StartError {
    StartError {
        what,
        checked: "the startup snapshot built into this program".to_owned(),
        fix: "rebuild the program: cargo clean -p stockade-isolate && cargo build".to_owned(),
    }
}

struct Isolate {
    realm: Realm,
    probes: Rc<Probes>,
    /// Bytes.
    held_at_start: u64,
    /// Something that the host may hold for the guest has come, such as a stream.
    got_parts: bool,
    interrupt: Arc<V8InterruptHandle>,
    guest: Rc<GuestContext>,
    port: Rc<Port>,
    main: Option<Main>,
    /// How the main module ended; `None` while it runs.
    outcome: Option<Result<(), GuestError>>,
    /// The host's questions that wait for the end of the main module.
    waiting: Vec<CallId>,
    /// Calls that wait for the end of the main module, with their sizes. They keep their places in the queue.
    calls: VecDeque<(ToIsolate, usize)>,
    /// Bytes of calls that have waited for the main module.
    waiting_bytes: usize,
    scripts: u32,
    /// Code is evaluated for a result; in a session with the names that it has declared.
    runs: Option<Option<HashSet<String>>>,
    /// Is run in place of the first code that is evaluated.
    prelude: Option<Prelude>,
    /// Activations since memory was measured.
    unmeasured: u32,
    last_work: Instant,
    /// Memory has been given back since the last work.
    rested: bool,
    timer: Option<Pin<Box<tokio::time::Sleep>>>,
    engine_timer: Option<Pin<Box<tokio::time::Sleep>>>,
    spins: Spins,
    /// When garbage may be collected for the guest once more; before then only if it is much.
    collected: Option<Instant>,
    /// Ends when garbage that could not be collected at once may be.
    collection: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Isolate {
    /// An isolate whose realm has started, and which has run nothing of the guest's.
    fn new(
        mut realm: Realm,
        guest: Rc<GuestContext>,
        port: Rc<Port>,
        probes: Rc<Probes>,
        interrupt: Arc<V8InterruptHandle>,
    ) -> Self {
        let held_at_start = held_memory(realm.runtime.v8_isolate());
        let options = guest.options();
        Self {
            runs: session(options).map(|session| session.then(HashSet::new)),
            prelude: Prelude::of(options),
            realm,
            probes,
            held_at_start,
            got_parts: false,
            interrupt,
            guest,
            port,
            main: None,
            outcome: None,
            waiting: Vec::new(),
            calls: VecDeque::new(),
            waiting_bytes: 0,
            scripts: 0,
            unmeasured: MEASURE_EVERY,
            last_work: Instant::now(),
            rested: false,
            timer: None,
            engine_timer: None,
            spins: Spins::default(),
            collected: None,
            collection: None,
        }
    }

    /// Runs the main module, and then what messages, timers and operations bring, until the isolate ends.
    async fn live(mut self) {
        // It may be recorded from its first statement.
        self.probes.follow(self.realm.runtime.v8_isolate());
        self.start_main().await;
        std::future::poll_fn(|cx| self.poll(cx)).await;
        wind_down();
        if let Some(place) = self.interrupt.place() {
            let place = self.realm.modules.original(place);
            self.guest.note_place(&place);
        }
        // The host is notified of the end before the heap is freed.
        self.guest.report();
        drop(self);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // What woke this thread is mostly a message: one turn for both.
        self.guest.poll_arrivals(cx);
        loop {
            self.probes.follow(self.realm.runtime.v8_isolate());
            let Some((handled, began)) = self.handle_batch() else {
                return Poll::Ready(());
            };
            let mut idle = self.turn(cx);
            if self.collect() {
                // What that gives back is sent in a turn of the event loop.
                idle = self.turn(cx);
            }
            if self.guest.is_ending() {
                return Poll::Ready(());
            }
            // A timer or a promise may have added the handler that they wait for.
            let listened = self.deliver_kept();
            let collected = self.measure(began.elapsed());
            self.guest.end();
            if handled == BATCH || listened || collected || self.has_calls() {
                self.guest.flush();
                continue;
            }
            if self.may_spin(handled) {
                self.guest.flush();
                let found = self.spin();
                self.spins.note(found);
                if found {
                    continue;
                }
            }
            if self.poll_collection(cx) || self.poll_engine_timer(cx) {
                continue;
            }
            self.guest.set_idle(idle);
            if self.rest(cx, handled > 0) {
                continue;
            }
            ready!(self.guest.poll_ready(cx));
        }
    }

    /// Handles the messages that have come, at most [`BATCH`]: how many, and when the last activation began. `None` if the
    /// isolate is ending.
    fn handle_batch(&mut self) -> Option<(usize, Instant)> {
        let mut handled = 0;
        let mut began = Instant::now();
        while handled < BATCH {
            if self.guest.is_ending() {
                return None;
            }
            let Some((message, size)) = self.next_message() else {
                break;
            };
            if handled == 0 {
                self.guest.begin();
                began = Instant::now();
            } else if began.elapsed() > SHORT {
                self.guest.end();
                self.guest.begin();
                began = Instant::now();
            }
            handled += 1;
            charge(size as i64);
            self.handle(message, size);
        }
        Some((handled, began))
    }

    /// The next message with its size: first the calls that waited for the main module.
    fn next_message(&mut self) -> Option<(ToIsolate, usize)> {
        match self.outcome {
            Some(_) => self.calls.pop_front().or_else(|| self.guest.try_recv()),
            None => self.guest.try_recv(),
        }
    }

    /// Whether there are calls that need not wait any more.
    fn has_calls(&self) -> bool {
        self.outcome.is_some() && !self.calls.is_empty()
    }

    /// Collects garbage where the guest wants it, on its account and in a small part of its time; true if it did.
    fn collect(&mut self) -> bool {
        let wanted = self.port.collection();
        if wanted == Collect::No || self.guest.is_ending() {
            return false;
        }
        if wanted == Collect::Soon && self.collected.is_some_and(|next| Instant::now() < next) {
            return false;
        }
        let began = Instant::now();
        self.realm.runtime.v8_isolate().low_memory_notification();
        self.port.collected();
        self.collected = Some(Instant::now() + began.elapsed() * COLLECTION_SHARE);
        self.collection = None;
        true
    }

    /// Whether it is time to run what the engine has put off to a moment that it does not report: the timeout of
    /// `Atomics.waitAsync`, which only guests with shared memory have.
    fn poll_engine_timer(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.guest.options().shared_array_buffer || !is_single_threaded() {
            return false;
        }
        let timer =
            (self.engine_timer).get_or_insert_with(|| Box::pin(tokio::time::sleep(ENGINE_TIMER)));
        if timer.as_mut().poll(cx).is_pending() {
            return false;
        }
        self.engine_timer = None;
        true
    }

    /// Whether it is time to collect the garbage that could not be collected at once.
    fn poll_collection(&mut self, cx: &mut Context<'_>) -> bool {
        if self.port.collection() == Collect::No {
            return false;
        }
        let next = self.collected.unwrap_or_else(Instant::now);
        let timer = self
            .collection
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(next.into())));
        timer.as_mut().poll(cx).is_ready()
    }

    /// Measures memory after long activations, and now and then after short ones; true if garbage was collected.
    fn measure(&mut self, activation: Duration) -> bool {
        self.unmeasured += 1;
        if activation > SHORT || self.unmeasured >= MEASURE_EVERY {
            self.unmeasured = 0;
            return measure_memory(self.realm.runtime.v8_isolate());
        }
        false
    }

    /// Whether to check for the next message after handling `handled` messages.
    fn may_spin(&mut self, handled: usize) -> bool {
        match handled {
            0 => false,
            _ if !self.guest.is_in_worker() => true,
            1 => self.spins.wanted(),
            _ => {
                // The host is busy enough to gather messages: it does not send the next one at once.
                self.spins.note(false);
                false
            }
        }
    }

    /// Looks for a message for a moment; true when there is one.
    fn spin(&self) -> bool {
        let spin = if self.guest.is_in_worker() {
            SPIN_IN_WORKER
        } else {
            SPIN
        };
        let until = Instant::now() + spin;
        loop {
            if self.guest.has_messages() || self.guest.is_ending() {
                return true;
            }
            if Instant::now() >= until {
                return false;
            }
            std::hint::spin_loop();
        }
    }

    /// Gives timers and operations their turn; true when nothing of that is pending.
    fn turn(&mut self, cx: &mut Context<'_>) -> bool {
        self.guest.begin();
        let mut stalled = 0;
        let mut rounds = 0;
        loop {
            let options = PollEventLoopOptions::default();
            let polled = self.realm.runtime.poll_event_loop(cx, options);
            let main_waits = match &polled {
                Poll::Ready(Err(_)) if self.guest.is_ending() => return false,
                Poll::Ready(Err(error)) if awaits_at_top_level(error) => true,
                Poll::Ready(Err(error)) => {
                    self.uncaught(error);
                    continue;
                }
                _ => false,
            };
            self.poll_main(cx);
            if self.run_engine_tasks() {
                if main_waits {
                    // What the engine does later may be what the module waits for.
                    stalled = 0;
                }
                // Each task may make the next one, and messages are to have their turn too.
                rounds += 1;
                if rounds == MOST_ROUNDS {
                    cx.waker().wake_by_ref();
                    return false;
                }
                continue;
            }
            if !main_waits {
                return polled.is_ready();
            }
            stalled += 1;
            if stalled == STALLED {
                return true;
            }
        }
    }

    /// Runs what the engine has put off, if it has no threads of its own for that; true if there was any.
    fn run_engine_tasks(&mut self) -> bool {
        !self.guest.is_ending() && run_engine_tasks(self.realm.runtime.v8_isolate())
    }

    fn uncaught(&mut self, error: &CoreError) {
        let error = core_error(error);
        let _ = self.port.send(FromIsolate::Uncaught(error));
    }
}
