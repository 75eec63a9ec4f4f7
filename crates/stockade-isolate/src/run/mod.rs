//! The loop of one isolate: messages in, JavaScript, the event loop, and again.
//!
//! Invariant: JavaScript runs only between `GuestContext::begin` and `GuestContext::end`.

mod rest;

use std::collections::{HashSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use deno_core::{JsRuntime, ModuleId, PollEventLoopOptions, v8};
use stockade_inspector::{Debuggers, Inspector};
use stockade_protocol::{CallId, FromIsolate, GuestError, Payload, RequestId, ToIsolate};
use stockade_realm::{GuestPort, Parts, guest_error};
use stockade_supervisor::{GuestContext, StartError};

use crate::debug;
use crate::initialize::{is_single_threaded, run_engine_tasks};
use crate::invoke::{invoke, string};
use crate::modules::{serves, session};
use crate::port::{Collect, Kept, Port};
use crate::probe::Probes;
use crate::realm::Realm;
use crate::script::{self, Prelude, Stopped};
use crate::serve;
use crate::spins::Spins;
use crate::sys::alloc::charge;
use crate::sys::guard::{Guard, held_memory, measure_memory, wind_down};
use crate::sys::interrupt::V8InterruptHandle;

/// Messages handled before timers and operations get their turn.
const BATCH: usize = 64;

/// What the code is called that runs before that of a run.
const PRELUDE: &str = "prelude.ts";

/// Consecutive messages share one activation while it is shorter than this.
const SHORT: Duration = Duration::from_millis(1);

/// After a garbage collection that the guest wanted, it gets the next one after this many times its duration.
const COLLECTION_SHARE: u32 = 9;

/// How often a turn goes round because the engine had put something off.
const MOST_ROUNDS: u32 = 8;

/// Calls, and their bytes, that may wait for the main module to come to its end.
const MOST_WAITING_CALLS: usize = 10_000;
const MOST_WAITING_BYTES: usize = 16 << 20;

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

/// The same behind a socket, where the host takes longer to answer; [`Spins`] says when.
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
    match realm.start(Rc::clone(&port), guest.options(), debuggers.is_some()) {
        Ok(()) => {
            if let Some(debuggers) = debuggers.clone().filter(|_| lets_in) {
                debug::let_in(&mut realm.runtime, &guest, debuggers);
            }
            let listed = inspector.zip(debuggers).map(|(inspector, debuggers)| {
                debug::list(&inspector, &realm.runtime, &guest, debuggers)
            });
            guest.started(Ok(()));
            // What an empty isolate holds is not the guest's.
            native.store(0, Ordering::Relaxed);
            let held_at_start = held_memory(realm.runtime.v8_isolate());
            let isolate = Isolate {
                realm,
                probes,
                held_at_start,
                got_parts: false,
                interrupt,
                guest: Rc::clone(&guest),
                port,
                main: None,
                outcome: None,
                waiting: Vec::new(),
                calls: VecDeque::new(),
                waiting_bytes: 0,
                scripts: 0,
                runs: session(guest.options()).map(|session| session.then(HashSet::new)),
                prelude: Prelude::of(guest.options()),
                unmeasured: MEASURE_EVERY,
                last_work: Instant::now(),
                rested: false,
                timer: None,
                engine_timer: None,
                spins: Spins::default(),
                collected: None,
                collection: None,
            };
            isolate.live().await;
            drop(listed);
        }
        Err(what) => {
            guest.started(Err(StartError {
                what,
                checked: "the startup snapshot built into this program".to_owned(),
                fix: "rebuild the program: cargo clean -p stockade-isolate && cargo build"
                    .to_owned(),
            }));
        }
    }
    drop(entered);
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
    /// What became of the main module; `None` while it runs.
    outcome: Option<Result<(), GuestError>>,
    /// Hosts' questions that wait for it.
    waiting: Vec<CallId>,
    /// Calls that wait for it, with their sizes. They keep their places in the queue.
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
    /// Not before then is garbage collected for the guest once more, unless it is much.
    collected: Option<Instant>,
    /// Until then.
    collection: Option<Pin<Box<tokio::time::Sleep>>>,
}

type Evaluation = Pin<Box<dyn Future<Output = Result<(), deno_core::error::CoreError>>>>;

/// The module that was run when the isolate started.
struct Main {
    id: ModuleId,
    evaluation: Option<Evaluation>,
    /// Its default export answers requests.
    serves: bool,
}

impl Isolate {
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

    async fn start_main(&mut self) {
        self.evaluate_main().await;
        // A module without top-level `await` is done: callers that wait for it are notified first.
        std::future::poll_fn(|cx| {
            self.guest.begin();
            self.poll_main(cx);
            self.guest.end();
            Poll::Ready(())
        })
        .await;
    }

    async fn evaluate_main(&mut self) {
        let serves = serves(self.guest.options());
        let Some(url) = self.realm.modules.main() else {
            if serves {
                let error = self.realm.modules.no_main();
                self.guest.begin();
                serve::failed(&mut self.realm, &error);
                self.guest.end();
            }
            return self.settle(Ok(()));
        };
        self.guest.begin();
        match self.realm.runtime.load_main_es_module(&url).await {
            Ok(id) => {
                let evaluation = Box::pin(self.realm.runtime.mod_evaluate(id));
                self.main = Some(Main {
                    id,
                    evaluation: Some(evaluation),
                    serves,
                });
            }
            Err(error) => self.main_failed(&error, serves),
        }
        self.guest.end();
    }

    /// The main module could not be loaded, or could not be run to its end.
    fn main_failed(&mut self, error: &deno_core::error::CoreError, serves: bool) {
        if self.guest.is_ending() {
            return;
        }
        let error = crate::error::core_error(error);
        if serves {
            serve::failed(&mut self.realm, &error);
        } else {
            let _ = self.port.send(FromIsolate::Uncaught(error.clone()));
        }
        self.settle(Err(error));
    }

    /// The main module has come to its end.
    fn settle(&mut self, outcome: Result<(), GuestError>) {
        for id in std::mem::take(&mut self.waiting) {
            self.reply(id, outcome.clone());
        }
        self.outcome = Some(outcome);
    }

    fn reply(&self, id: CallId, result: Result<(), GuestError>) {
        let result = result.map(|()| Payload::default());
        let _ = self.port.send(FromIsolate::Reply { id, result });
    }

    fn ready(&mut self, id: CallId) {
        match self.outcome.clone() {
            Some(outcome) => self.reply(id, outcome),
            None => self.waiting.push(id),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // What woke this thread is mostly a message: one turn for both.
        self.guest.poll_arrivals(cx);
        loop {
            self.probes.follow(self.realm.runtime.v8_isolate());
            let mut handled = 0;
            let mut began = Instant::now();
            while handled < BATCH {
                if self.guest.is_ending() {
                    return Poll::Ready(());
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
            if self.poll_collection(cx) {
                continue;
            }
            if self.poll_engine_timer(cx) {
                continue;
            }
            self.guest.set_idle(idle);
            if self.rest(cx, handled > 0) {
                continue;
            }
            match self.guest.poll_ready(cx) {
                Poll::Ready(()) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// The next message with its size: first the calls that waited for the main module.
    fn next_message(&mut self) -> Option<(ToIsolate, usize)> {
        match self.outcome {
            Some(_) => self.calls.pop_front().or_else(|| self.guest.try_recv()),
            None => self.guest.try_recv(),
        }
    }

    /// Whether one more call may wait for the main module. The answers that the module may wait for share the queue with
    /// the calls, which must leave them room.
    fn may_wait(&self, size: usize) -> bool {
        self.calls.len() < MOST_WAITING_CALLS
            && self.waiting_bytes.saturating_add(size) <= MOST_WAITING_BYTES
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
            match self
                .realm
                .runtime
                .poll_event_loop(cx, PollEventLoopOptions::default())
            {
                Poll::Ready(Err(error)) => {
                    if self.guest.is_ending() {
                        return false;
                    }
                    if crate::error::awaits_at_top_level(&error) {
                        self.poll_main(cx);
                        // What the engine does later may be what the module waits for.
                        if self.run_engine_tasks() {
                            stalled = 0;
                            rounds += 1;
                            if rounds == MOST_ROUNDS {
                                cx.waker().wake_by_ref();
                                return false;
                            }
                            continue;
                        }
                        stalled += 1;
                        if stalled == STALLED {
                            return true;
                        }
                        continue;
                    }
                    self.uncaught(&error);
                }
                polled => {
                    self.poll_main(cx);
                    if !self.run_engine_tasks() {
                        return polled.is_ready();
                    }
                    // Each task may make the next one, and messages are to have their turn too.
                    rounds += 1;
                    if rounds == MOST_ROUNDS {
                        cx.waker().wake_by_ref();
                        return false;
                    }
                }
            }
        }
    }

    /// Runs what the engine has put off, if it has no threads of its own for that; true if there was any.
    fn run_engine_tasks(&mut self) -> bool {
        !self.guest.is_ending() && run_engine_tasks(self.realm.runtime.v8_isolate())
    }

    fn poll_main(&mut self, cx: &mut Context<'_>) {
        let Some(main) = &mut self.main else { return };
        let Some(evaluation) = &mut main.evaluation else {
            return;
        };
        let Poll::Ready(result) = evaluation.as_mut().poll(cx) else {
            return;
        };
        main.evaluation = None;
        let (id, serves) = (main.id, main.serves);
        match result {
            Ok(()) if self.guest.is_ending() => {}
            Ok(()) => {
                if serves {
                    serve::evaluated(&mut self.realm, id);
                }
                // The engine says of a module that threw, too, that it has been evaluated. The host learns of it by
                // the rejection that nothing handles.
                let namespace = self.realm.runtime.get_module_namespace(id);
                self.settle(match namespace {
                    Ok(_) => Ok(()),
                    Err(error) => Err(crate::error::core_error(&error)),
                });
            }
            Err(error) => self.main_failed(&error, serves),
        }
    }

    fn uncaught(&mut self, error: &deno_core::error::CoreError) {
        let error = crate::error::core_error(error);
        let _ = self.port.send(FromIsolate::Uncaught(error));
    }

    fn handle(&mut self, message: ToIsolate, size: usize) {
        self.note_parts(&message);
        match message {
            ToIsolate::Event { name, data } => return self.event(Kept { name, data, size }),
            ToIsolate::Execute { code } => self.script(&code, None),
            ToIsolate::Evaluate { id, code } => self.script(&code, Some(id)),
            ToIsolate::Ready { id } => self.ready(id),
            call @ ToIsolate::Call { .. } if self.outcome.is_none() && self.may_wait(size) => {
                // It waits in the host's queue, not on the guest's account.
                charge(-(size as i64));
                self.waiting_bytes += size;
                return self.calls.push_back((call, size));
            }
            ToIsolate::Call { id, .. } if self.outcome.is_none() => {
                let error = format!(
                    "the guest's main module waits in a top-level await, and {} calls wait for it already",
                    self.calls.len()
                );
                let result = Err(GuestError::new(error));
                let _ = self.port.send(FromIsolate::Reply { id, result });
            }
            ToIsolate::Call { id, name, args } => self.call(id, &name, args),
            ToIsolate::Answer { id, result } => self.answer(id, result),
            ToIsolate::Control { name, data } => self.control(&name, data),
        }
        self.guest.done(size);
        self.deliver_kept();
    }

    fn event(&mut self, mut event: Kept) {
        if self.port.keeps(&event.name) || !self.dispatch_event(&mut event) {
            // It waits in the host's queue, not on the guest's account.
            charge(-(event.size as i64));
            self.port.keep(event);
        } else {
            self.guest.done(event.size);
            self.deliver_kept();
        }
    }

    /// Delivers events that had waited for a handler; true if there were any.
    fn deliver_kept(&mut self) -> bool {
        let events = self.port.take_listened();
        let any = !events.is_empty();
        for mut event in events {
            if self.dispatch_event(&mut event) {
                charge(event.size as i64);
                self.guest.done(event.size);
            } else {
                self.port.keep(event);
            }
        }
        any
    }

    /// Whether a handler took the event.
    fn dispatch_event(&mut self, event: &mut Kept) -> bool {
        offer(&mut self.realm.runtime, &mut event.data);
        let taken = self.invoke_event(event);
        if !taken && event.data.marked {
            let state = self.realm.runtime.op_state();
            event.data.bytes = state.borrow_mut().borrow_mut::<Parts>().retract();
        }
        taken
    }

    fn invoke_event(&mut self, event: &Kept) -> bool {
        let function = &self.realm.functions.dispatch_event;
        deno_core::scope!(scope, self.realm.runtime);
        v8::tc_scope!(let scope, scope);
        let (Some(name), Some(data)) = (string(scope, &event.name), parse(scope, &event.data.json))
        else {
            return true;
        };
        let marked = v8::Boolean::new(scope, event.data.marked).into();
        let taken = invoke(scope, function, &[name, data, marked]);
        scope.perform_microtask_checkpoint();
        // An isolate that is ending takes everything.
        taken.is_none_or(|taken| taken.is_true())
    }

    fn answer(&mut self, id: RequestId, mut result: Result<Payload, GuestError>) {
        let function = &self.realm.functions.dispatch_answer;
        if let Ok(data) = &mut result {
            offer(&mut self.realm.runtime, data);
        }
        deno_core::scope!(scope, self.realm.runtime);
        v8::tc_scope!(let scope, scope);
        let id = v8::Number::new(scope, id as f64).into();
        let ok = v8::Boolean::new(scope, result.is_ok()).into();
        let marked = v8::Boolean::new(scope, matches!(&result, Ok(data) if data.marked)).into();
        let (data, name, code) = match &result {
            Ok(data) => (parse(scope, &data.json), "", ""),
            Err(error) => (string(scope, &error.message), &*error.name, error.code()),
        };
        let [name, code] = [name, code].map(|text| string(scope, text));
        if let (Some(data), Some(name), Some(code)) = (data, name, code) {
            invoke(scope, function, &[id, ok, data, marked, name, code]);
        }
        scope.perform_microtask_checkpoint();
    }

    fn control(&mut self, name: &str, mut data: Payload) {
        let function = &self.realm.functions.dispatch_control;
        offer(&mut self.realm.runtime, &mut data);
        deno_core::scope!(scope, self.realm.runtime);
        v8::tc_scope!(let scope, scope);
        if let (Some(name), Some(value)) = (string(scope, name), parse(scope, &data.json)) {
            let marked = v8::Boolean::new(scope, data.marked).into();
            invoke(scope, function, &[name, value, marked]);
        }
        scope.perform_microtask_checkpoint();
    }

    /// Runs a script, or with an id the text of a run where the isolate is for those; the first such text only has the
    /// prelude run, if there is one. With an id its value is the reply to
    /// that call; without, its value is dropped and what it throws is an error of the guest.
    fn script(&mut self, code: &str, reply_to: Option<CallId>) {
        let prelude = self.prelude.take_if(|_| reply_to.is_some());
        self.scripts += u32::from(prelude.is_none());
        let kind = if reply_to.is_some() {
            "evaluate"
        } else {
            "execute"
        };
        let mut runs = self.runs.as_mut().filter(|_| reply_to.is_some());
        let name = match (&runs, self.scripts) {
            _ if prelude.is_some() => PRELUDE.to_owned(),
            (Some(_), 1) => "main.ts".to_owned(),
            (Some(_), number) => format!("main-{number}.ts"),
            (None, number) => format!("{kind}#{number}"),
        };
        let modules = Rc::clone(&self.realm.modules);
        let error = {
            deno_core::scope!(scope, self.realm.runtime);
            let none = v8::undefined(scope).into();
            scope.set_continuation_preserved_embedder_data(none);
            let result = match (&mut runs, prelude) {
                (_, Some(prelude)) => script::run_prelude(scope, &modules, &name, prelude),
                (Some(declared), None) => {
                    script::run_program(scope, &modules, &name, code, declared.as_mut())
                }
                (None, None) => script::run(scope, &modules, &name, code),
            };
            let error = match (result, reply_to) {
                (Ok(value), Some(id)) => {
                    v8::tc_scope!(let scope, scope);
                    let id = v8::Number::new(scope, id as f64).into();
                    invoke(scope, &self.realm.functions.reply, &[id, value]);
                    None
                }
                (Ok(_), None) => None,
                (Err(Stopped::Threw(thrown)), Some(_)) => Some(guest_error(scope, thrown)),
                (Err(Stopped::Threw(thrown)), None) => {
                    // The guest's own listeners come first.
                    v8::tc_scope!(let scope, scope);
                    invoke(scope, &self.realm.functions.report_exception, &[thrown]);
                    None
                }
                (Err(Stopped::Error(error)), _) => Some(error),
            };
            scope.perform_microtask_checkpoint();
            error
        };
        let Some(error) = error.filter(|_| !self.guest.is_ending()) else {
            return;
        };
        let _ = self.port.send(match reply_to {
            Some(id) => FromIsolate::Reply {
                id,
                result: Err(error),
            },
            None => FromIsolate::Uncaught(error),
        });
    }

    fn call(&mut self, id: CallId, name: &str, mut args: Payload) {
        let exports = self.main.as_ref().map(|main| main.id);
        let exports = exports.and_then(|id| self.realm.runtime.get_module_namespace(id).ok());
        offer(&mut self.realm.runtime, &mut args);
        let found = {
            deno_core::scope!(scope, self.realm.runtime);
            v8::tc_scope!(let scope, scope);
            let target = match exports {
                Some(exports) => v8::Local::new(scope, exports).into(),
                None => v8::undefined(scope).into(),
            };
            let call_id = v8::Number::new(scope, id as f64).into();
            let marked = v8::Boolean::new(scope, args.marked).into();
            let found = match (string(scope, name), parse(scope, &args.json)) {
                (Some(name), Some(list)) if list.is_array() => {
                    let found = invoke(
                        scope,
                        &self.realm.functions.call,
                        &[call_id, target, name, list, marked],
                    );
                    // An isolate that is ending replies to nothing.
                    Ok(found.is_none_or(|found| found.is_true()))
                }
                _ => Err(GuestError::new(
                    "the arguments of a call must be a JSON array",
                )),
            };
            scope.perform_microtask_checkpoint();
            found
        };
        let result = match found {
            Ok(true) => return,
            Ok(false) => self.no_function(name),
            Err(error) => Err(error),
        };
        let _ = self.port.send(FromIsolate::Reply { id, result });
    }

    /// What a call gives of a function that there is not: above all why the module that should have it did not
    /// run.
    fn no_function(&self, name: &str) -> Result<Payload, GuestError> {
        match &self.outcome {
            Some(Err(failure)) => Err(failure.clone()),
            _ if name.starts_with('\0') => Ok(Payload::no_export()),
            _ => Err(GuestError {
                name: "TypeError".to_owned(),
                ..GuestError::new(format!(
                    "the guest has no function '{name}': export it, or make it global"
                ))
            }),
        }
    }
}

/// Offers the binary parts of a message to the op that revives them.
fn offer(runtime: &mut JsRuntime, data: &mut Payload) {
    if data.marked {
        let bytes = std::mem::take(&mut data.bytes);
        let state = runtime.op_state();
        state.borrow_mut().borrow_mut::<Parts>().offer(bytes);
    }
}

/// Parses JSON in V8, where it counts against the guest's limits; empty text is `undefined`.
fn parse<'s>(scope: &mut v8::PinScope<'s, '_>, json: &str) -> Option<v8::Local<'s, v8::Value>> {
    if json.is_empty() {
        return Some(v8::undefined(scope).into());
    }
    let text = v8::String::new(scope, json)?;
    v8::json::parse(scope, text)
}
