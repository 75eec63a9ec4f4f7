//! Events of isolates, from the supervisor's queues into the host's JavaScript.
//!
//! Invariants:
//! 1. Everything an event holds came from a guest. Its data becomes JavaScript values only through the
//!    engine's JSON parser (except whole numbers), and only when a handler takes it.
//! 2. A turn is [`SLICE`] long, and the one event that is being handled when it is over. Where events before it
//!    were quick it may be four small ones: the clock is read once for [`GLANCE`] bytes of such.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io::Write as _;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use deno_core::{JsRuntime, OpState, serde_json, v8};
use serde_json::json;
use stockade_host_realm::{
    Account, Arrival, Given, HostFunctions, IsolateKey, RunInfo, Sandboxes, error_json, parse,
};
use stockade_limits::ConsoleMode;
use stockade_protocol::{ConsoleLevel, GuestError, Payload};
use stockade_realm::Parts;
use stockade_supervisor::{Event, IsolateHandle, ResourceUsage, TerminateReason};
use tokio::time::Sleep;

/// How long events are handled before the script's own work gets its turn.
const SLICE: Duration = Duration::from_millis(4);

/// How long those of one isolate are handled before the next one's.
const TURN: Duration = Duration::from_millis(1);

/// Bytes of events that are handled before the clock is read again, where those before were quick.
const GLANCE: usize = 4 << 10;

/// An event counts as at least this many bytes: so the clock is read after four events at most.
const GLANCE_LEAST: usize = GLANCE / 4;

/// Quick events with this many bytes take less.
const QUICK: Duration = Duration::from_micros(100);

/// Bytes of events that are handled before their places are given back.
const FREED: usize = 64 << 10;

/// What is done again and again because something waits leaves this many times as long to all else.
const PAUSE: u32 = 2;

/// Hands what happened in isolates to the script.
#[derive(Default)]
pub(crate) struct Pump {
    /// The sandbox whose turn it is first.
    first: u32,
    /// Handlers are not asked again before then, whether they have come to their end.
    ask: Pause,
}

/// When something may be done again that took time.
#[derive(Default)]
pub(crate) struct Pause(Option<Pin<Box<Sleep>>>);

impl Pause {
    /// Whether it may be done now; else the task is woken when it may.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(sleep) = &mut self.0 {
            std::task::ready!(sleep.as_mut().poll(cx));
            self.0 = None;
        }
        Poll::Ready(())
    }

    /// It took so long.
    pub(crate) fn took(&mut self, time: Duration) {
        let wait = (time * PAUSE).max(Duration::from_millis(1));
        self.0 = Some(Box::pin(tokio::time::sleep(wait)));
    }
}

impl Pump {
    /// Hands events to the script's handlers until there are none or it is the script's turn.
    pub(crate) fn turn(
        &mut self,
        runtime: &mut JsRuntime,
        sandboxes: &Sandboxes,
        cx: &mut Context<'_>,
    ) {
        sandboxes.turn_began(cx.waker());
        let Some(realm) = Realm::of(runtime, sandboxes) else {
            return;
        };
        let until = Instant::now() + SLICE;
        deno_core::scope!(scope, runtime);
        loop {
            let mut found = false;
            while let Some((account, given)) = sandboxes.next_waiting() {
                found = true;
                realm.deliver(scope, &account, given);
                realm.free(&account);
                if Instant::now() >= until {
                    return sandboxes.more();
                }
            }
            for _ in 0..sandboxes.count() {
                self.first = (self.first + 1) % sandboxes.count();
                found |= realm.turn_of_one(scope, self.first, cx);
                if Instant::now() >= until {
                    return sandboxes.more();
                }
            }
            if !found {
                return;
            }
        }
    }

    /// Asks handlers whether they have come to their end, where something waits for that. `now`: the script
    /// has nothing else to wait for.
    pub(crate) fn settle(
        &mut self,
        runtime: &mut JsRuntime,
        sandboxes: &Sandboxes,
        cx: &mut Context<'_>,
        now: bool,
    ) {
        let unsettled = sandboxes.unsettled();
        if unsettled.is_empty() || (self.ask.poll(cx).is_pending() && !now) {
            return;
        }
        let Some(realm) = Realm::of(runtime, sandboxes) else {
            return;
        };
        let began = Instant::now();
        let before = sandboxes.held();
        deno_core::scope!(scope, runtime);
        for isolate in unsettled {
            realm.call(scope, isolate, Call::plain("settle"));
        }
        if sandboxes.held() == before {
            self.ask.took(began.elapsed());
            // For the wake-up.
            let _ = self.ask.poll(cx);
        }
    }
}

/// The realm's function for events.
struct Realm<'a> {
    function: v8::Global<v8::Function>,
    state: Rc<RefCell<OpState>>,
    sandboxes: &'a Sandboxes,
    /// Events of the isolate whose turn it is, and their bytes, that have no place in its queue any more.
    freed: Cell<(usize, usize)>,
}

enum Called {
    Done,
    Unreadable,
}

impl<'a> Realm<'a> {
    fn of(runtime: &JsRuntime, sandboxes: &'a Sandboxes) -> Option<Self> {
        let state = runtime.op_state();
        let function = {
            let state = state.borrow();
            state.try_borrow::<HostFunctions>()?.isolate_event.clone()
        };
        Some(Self {
            function,
            state,
            sandboxes,
            freed: Cell::new((0, 0)),
        })
    }

    /// Handles a few events of one isolate; false where no isolate of the sandbox has any.
    fn turn_of_one(
        &self,
        scope: &mut v8::PinScope<'_, '_>,
        sandbox: u32,
        cx: &mut Context<'_>,
    ) -> bool {
        let Some(queue) = self.sandboxes.queue(sandbox) else {
            return false;
        };
        let Poll::Ready(mut turn) = queue.poll_turn(cx) else {
            return false;
        };
        let handle = turn.handle();
        let began = Instant::now();
        let mut read = Duration::ZERO;
        let mut unread = GLANCE;
        match self.sandboxes.account((sandbox, handle.id())) {
            Some(account) => {
                while let Some((event, place)) = turn.take() {
                    self.take(scope, &account, event, place);
                    self.free_some(&account);
                    unread = unread.saturating_add(place.max(GLANCE_LEAST));
                    if unread >= GLANCE {
                        let now = began.elapsed();
                        if now >= TURN {
                            break;
                        }
                        unread = if now - read < QUICK { 0 } else { GLANCE };
                        read = now;
                    }
                }
                self.free(&account);
            }
            // The script has never had it.
            None => {
                while let Some((_, place)) = turn.take() {
                    handle.release(place);
                }
            }
        }
        turn.end(began.elapsed());
        true
    }

    /// Gives the places of events back. Not one by one: their isolate is putting others there.
    fn free(&self, account: &Account) {
        let (events, bytes) = self.freed.take();
        if events > 0 {
            account.handle().release_many(events, bytes);
        }
    }

    fn free_some(&self, account: &Account) {
        if self.freed.get().1 >= FREED {
            self.free(account);
        }
    }

    fn take(
        &self,
        scope: &mut v8::PinScope<'_, '_>,
        account: &Account,
        event: Event,
        place: usize,
    ) {
        let handle = account.handle();
        if let Event::Console { level, text } = &event
            && handle.options().console == ConsoleMode::Inherit
        {
            handle.release(place);
            let state = self.state.borrow();
            print(handle, *level, text, state.try_borrow::<RunInfo>());
            return;
        }
        let event = match account.granted() {
            None => event,
            Some(granted) => match granted.take(event) {
                Some(event) => event,
                None => return handle.release(place),
            },
        };
        let lost = |scope: &mut v8::PinScope<'_, '_>, sentence: String| {
            let error = Event::Uncaught(GuestError::new(sentence));
            self.call(scope, account.key(), Call::new(error, true));
        };
        match self.sandboxes.arrive(account, event, place) {
            Arrival::Now(given) => self.deliver(scope, account, given),
            Arrival::After(sentence, given) => {
                lost(scope, sentence);
                self.deliver(scope, account, given);
            }
            Arrival::Lost(sentence) => lost(scope, sentence),
            Arrival::Kept => {}
            Arrival::Breach(what) => {
                handle.release(place);
                handle.terminate(TerminateReason::PolicyViolation, what);
            }
        }
    }

    fn deliver(&self, scope: &mut v8::PinScope<'_, '_>, account: &Account, given: Given) {
        let (events, bytes) = self.freed.get();
        self.freed
            .set((events + 1, bytes.saturating_add(given.place)));
        let last = matches!(given.event, Event::Destroyed(_));
        let of_guest = matches!(given.event, Event::Message { .. } | Event::Request { .. });
        let key = account.key();
        let called = match (given.event, given.receiver) {
            (Event::Message { data, .. }, Some(receiver)) => {
                self.pass(scope, key, &receiver, data, given.cost)
            }
            (event, _) => self.call(scope, key, Call::new(event, given.handled)),
        };
        if of_guest && matches!(called, Called::Unreadable) {
            // Only a worker that was taken over sends that.
            let what = "a message that is not JSON, or whose parts are missing";
            (account.handle()).terminate(TerminateReason::PolicyViolation, what);
        }
        if last {
            self.sandboxes.forget(key);
        }
    }

    /// Passes a message to the function that has it handled.
    fn pass(
        &self,
        scope: &mut v8::PinScope<'_, '_>,
        key: IsolateKey,
        receiver: &v8::Global<v8::Function>,
        data: Payload,
        cost: usize,
    ) -> Called {
        v8::scope!(let scope, scope);
        v8::tc_scope!(let scope, scope);
        let marked = data.marked;
        let value = match self.value(scope, key, data) {
            Ok(value) => value,
            Err(called) => return called,
        };
        let function = v8::Local::new(scope, receiver);
        let arguments = [
            value,
            v8::Boolean::new(scope, marked).into(),
            v8::Number::new(scope, cost as f64).into(),
        ];
        invoke(scope, function, &arguments, marked)
    }

    /// Calls the realm's function.
    fn call(&self, scope: &mut v8::PinScope<'_, '_>, key: IsolateKey, call: Call) -> Called {
        v8::scope!(let scope, scope);
        v8::tc_scope!(let scope, scope);
        let function = v8::Local::new(scope, &self.function);
        let undefined: v8::Local<'_, v8::Value> = v8::undefined(scope).into();
        let Call { kind, a, b, d } = call;
        let marked = b.as_ref().is_some_and(|data| data.marked);
        let b = match b.map(|data| self.value(scope, key, data)) {
            Some(Ok(value)) => value,
            Some(Err(called)) => return called,
            None => undefined,
        };
        let Some(kind) = v8::String::new(scope, kind) else {
            return Called::Done;
        };
        let a = match a {
            Text::Plain(text) => v8::String::new(scope, &text).map(Into::into),
            Text::Json(json) => parse(scope, json),
        };
        let arguments = [
            v8::Integer::new_from_unsigned(scope, key.0).into(),
            v8::Integer::new_from_unsigned(scope, key.1).into(),
            kind.into(),
            a.unwrap_or(undefined),
            b,
            v8::Boolean::new(scope, marked).into(),
            v8::Number::new(scope, d).into(),
        ];
        invoke(scope, function, &arguments, marked)
    }

    /// The value of data, whose bytes are offered to what revives it; or what came of the call that it was
    /// for.
    fn value<'s>(
        &self,
        scope: &mut v8::PinScope<'s, '_>,
        key: IsolateKey,
        data: Payload,
    ) -> Result<v8::Local<'s, v8::Value>, Called> {
        match parse(scope, data.json) {
            // It filled the heap and was ended for that.
            Some(_) if self.sandboxes.pressed() && self.sandboxes.has_ended(key) => {
                Err(Called::Done)
            }
            Some(value) => {
                if data.marked {
                    let mut state = self.state.borrow_mut();
                    state.borrow_mut::<Parts>().offer(data.bytes);
                }
                Ok(value)
            }
            None if scope.is_execution_terminating() => Err(Called::Done),
            None => Err(Called::Unreadable),
        }
    }
}

/// Calls a function of the realm, which reports by itself what handlers throw, and then what waits as
/// microtasks.
fn invoke(
    scope: &mut v8::PinScope<'_, '_>,
    function: v8::Local<'_, v8::Function>,
    arguments: &[v8::Local<'_, v8::Value>],
    marked: bool,
) -> Called {
    let undefined = v8::undefined(scope);
    let called = function.call(scope, undefined.into(), arguments);
    let unreadable = called.is_none() && marked && !scope.is_execution_terminating();
    scope.perform_microtask_checkpoint();
    if unreadable {
        Called::Unreadable
    } else {
        Called::Done
    }
}

/// The arguments of one call of the realm's function, see `js/sandbox.js` there.
struct Call {
    kind: &'static str,
    a: Text,
    b: Option<Payload>,
    d: f64,
}

enum Text {
    Plain(String),
    Json(String),
}

impl Call {
    fn plain(kind: &'static str) -> Self {
        Self {
            kind,
            a: Text::Plain(String::new()),
            b: None,
            d: 0.0,
        }
    }

    fn new(event: Event, handled: bool) -> Self {
        let with = |kind, a, b, d| Self {
            kind,
            a: Text::Plain(a),
            b: Some(b),
            d,
        };
        let report = |kind, value: serde_json::Value| Self {
            kind,
            a: Text::Json(value.to_string()),
            b: None,
            d: 0.0,
        };
        match event {
            Event::Message { name, data } => with("message", name, data, 0.0),
            Event::Request { id, method, data } if handled => {
                with("request", method, data, id as f64)
            }
            Event::Request { id, method, .. } => Self {
                kind: "unhandled",
                a: Text::Plain(method),
                b: None,
                d: id as f64,
            },
            Event::Control { name, data } => with("control", name, data, 0.0),
            Event::Console { level, text } => {
                report("console", json!({ "level": level.name(), "text": text }))
            }
            Event::Uncaught(error) => report("error", error_json(&error)),
            Event::Terminated {
                reason,
                usage,
                detail,
            } => report("terminated", terminated(reason, &usage, &detail)),
            Event::Destroyed(reason) => report("destroyed", json!({ "reason": reason.name() })),
        }
    }
}

fn terminated(reason: TerminateReason, usage: &ResourceUsage, detail: &str) -> serde_json::Value {
    let ms = |time: std::time::Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
    let mb = usage.memory as f64 / f64::from(1 << 20);
    json!({
        "reason": reason.name(),
        "cpuMs": ms(usage.cpu),
        "cpuTotalMs": ms(usage.cpu_total),
        "wallMs": ms(usage.wall),
        "memoryMb": (mb * 100.0).round() / 100.0,
        "detail": detail,
    })
}

/// Prints a guest's line with its isolate's name in front, which stands out where there are colours.
fn print(handle: &IsolateHandle, level: ConsoleLevel, text: &str, info: Option<&RunInfo>) {
    let name = match &handle.options().name {
        Some(name) => format!("[{name}]"),
        None => format!("[isolate #{}]", handle.id()),
    };
    let error = matches!(level, ConsoleLevel::Warn | ConsoleLevel::Error);
    let colours = info.is_some_and(|info| match error {
        true => info.stderr_color,
        false => info.stdout_color,
    });
    let prefix = match colours {
        true => format!("\u{1b}[1m{name}\u{1b}[0m "),
        false => format!("{name} "),
    };
    let mut out = String::with_capacity(text.len() + prefix.len() + 1);
    for line in text.split('\n') {
        out.push_str(&prefix);
        out.push_str(line);
        out.push('\n');
    }
    // When the output is closed, there is nowhere to report that.
    let _ = match error {
        true => std::io::stderr().write_all(out.as_bytes()),
        false => std::io::stdout()
            .write_all(out.as_bytes())
            .and_then(|()| std::io::stdout().flush()),
    };
}
