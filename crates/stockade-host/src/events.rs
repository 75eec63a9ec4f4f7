//! Events of isolates, from the supervisor's queues into the host's JavaScript.
//!
//! Everything an event holds came from a guest. Its data becomes JavaScript values only through the
//! engine's JSON parser.

use std::io::Write as _;
use std::task::{Context, Poll};

use deno_core::{JsRuntime, serde_json, v8};
use serde_json::json;
use stockade_host_realm::{HostFunctions, RunInfo, Sandboxes};
use stockade_policy::ConsoleMode;
use stockade_protocol::{ConsoleLevel, GuestError, Payload};
use stockade_realm::Parts;
use stockade_supervisor::{Event, Figures, Handle, TerminateReason};

/// Batches of events handled before the script's own work gets its turn.
const BATCHES: usize = 16;

/// Hands events to the script's handlers until there are none or it is the script's turn.
pub(crate) fn pump(runtime: &mut JsRuntime, sandboxes: &Sandboxes, cx: &mut Context<'_>) {
    let mut index = 0;
    while let Some(hub) = sandboxes.hub(index) {
        for batch in 0.. {
            let Poll::Ready((handle, events)) = hub.poll_events(cx) else {
                break;
            };
            deliver(runtime, sandboxes, index, &handle, events);
            if batch == BATCHES {
                cx.waker().wake_by_ref();
                break;
            }
        }
        index += 1;
    }
}

fn deliver(
    runtime: &mut JsRuntime,
    sandboxes: &Sandboxes,
    sandbox: u32,
    handle: &Handle,
    events: Vec<Event>,
) {
    let state = runtime.op_state();
    let function = {
        let state = state.borrow();
        match state.try_borrow::<HostFunctions>() {
            Some(functions) => functions.isolate_event.clone(),
            None => return,
        }
    };
    deno_core::scope!(scope, runtime);
    let function = v8::Local::new(scope, function);
    let undefined: v8::Local<'_, v8::Value> = v8::undefined(scope).into();
    let sandbox_value = v8::Integer::new_from_unsigned(scope, sandbox).into();
    let id = v8::Integer::new_from_unsigned(scope, handle.id()).into();
    for event in events {
        if let Event::Console { level, text } = &event
            && handle.options().console == ConsoleMode::Inherit
        {
            let state = state.borrow();
            print(handle, *level, text, state.try_borrow::<RunInfo>());
            continue;
        }
        let last = matches!(event, Event::Destroyed(_));
        v8::scope!(let scope, scope);
        v8::tc_scope!(let scope, scope);
        let Call { kind, a, b, c, d } = Call::new(event);
        let (b, marked) = match b {
            Some(payload) => match data(scope, &payload.json) {
                Some(value) => {
                    if payload.marked {
                        let mut state = state.borrow_mut();
                        state.borrow_mut::<Parts>().offer(payload.bytes);
                    }
                    (value, payload.marked)
                }
                // Not JSON: only a worker that was taken over sends that.
                None => continue,
            },
            None => (undefined, false),
        };
        let Some(kind) = v8::String::new(scope, kind) else {
            continue;
        };
        let a = match a {
            Text::Plain(text) => v8::String::new(scope, &text).map(Into::into),
            Text::Json(json) => data(scope, &json),
        };
        let c = v8::Boolean::new(scope, c || marked).into();
        let d = v8::Number::new(scope, d).into();
        let arguments = [
            sandbox_value,
            id,
            kind.into(),
            a.unwrap_or(undefined),
            b,
            c,
            d,
        ];
        // The realm reports what handlers throw; what is left is the engine ending the script.
        function.call(scope, undefined, &arguments);
        scope.perform_microtask_checkpoint();
        if last {
            sandboxes.forget(sandbox, handle.id());
        }
    }
}

/// The arguments of one call of the realm's function, see `js/sandbox.js` there.
struct Call {
    kind: &'static str,
    a: Text,
    b: Option<Payload>,
    c: bool,
    d: f64,
}

enum Text {
    Plain(String),
    Json(String),
}

impl Call {
    fn new(event: Event) -> Self {
        let with = |kind, a, b, d| Self {
            kind,
            a: Text::Plain(a),
            b: Some(b),
            c: false,
            d,
        };
        let report = |kind, value: serde_json::Value| Self {
            kind,
            a: Text::Json(value.to_string()),
            b: None,
            c: false,
            d: 0.0,
        };
        match event {
            Event::Message { name, data } => {
                let size = data.size() as f64;
                with("message", name, data, size)
            }
            Event::Request { id, method, data } => with("request", method, data, id as f64),
            Event::Control { name, data } => with("control", name, data, 0.0),
            Event::Console { level, text } => {
                report("console", json!({ "level": level.name(), "text": text }))
            }
            Event::Uncaught(error) => report("error", uncaught(&error)),
            Event::Terminated {
                reason,
                figures,
                detail,
            } => report("terminated", terminated(reason, &figures, &detail)),
            Event::Destroyed(reason) => report("destroyed", json!({ "reason": reason.name() })),
        }
    }
}

fn uncaught(error: &GuestError) -> serde_json::Value {
    let mut value = texts(error);
    stockade_host_realm::add_related(&mut value, &error.related, &texts);
    value
}

fn texts(error: &GuestError) -> serde_json::Value {
    let position = error.position.as_ref();
    json!({
        "name": error.name,
        "message": error.message,
        "stack": error.stack,
        "source": position.map(|p| &p.source),
        "line": position.map(|p| p.line),
        "column": position.map(|p| p.column),
    })
}

fn terminated(reason: TerminateReason, figures: &Figures, detail: &str) -> serde_json::Value {
    let ms = |time: std::time::Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
    let mb = figures.memory as f64 / f64::from(1 << 20);
    json!({
        "reason": reason.name(),
        "cpuMs": ms(figures.cpu),
        "cpuTotalMs": ms(figures.cpu_total),
        "wallMs": ms(figures.wall),
        "memoryMb": (mb * 100.0).round() / 100.0,
        "detail": detail,
    })
}

/// Parses data as the engine does; empty text is `undefined`, `None` is no JSON.
fn data<'s>(scope: &mut v8::PinScope<'s, '_>, json: &str) -> Option<v8::Local<'s, v8::Value>> {
    if json.is_empty() {
        return Some(v8::undefined(scope).into());
    }
    let text = v8::String::new(scope, json)?;
    v8::json::parse(scope, text)
}

/// Prints a guest's line with its isolate's name in front, which stands out where there are colours.
fn print(handle: &Handle, level: ConsoleLevel, text: &str, info: Option<&RunInfo>) {
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
    // Nobody is left to tell when the output is closed.
    let _ = match error {
        true => std::io::stderr().write_all(out.as_bytes()),
        false => std::io::stdout()
            .write_all(out.as_bytes())
            .and_then(|()| std::io::stdout().flush()),
    };
}
