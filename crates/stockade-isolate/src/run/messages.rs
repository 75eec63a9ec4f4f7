//! What an isolate does with each message of its host.

use std::rc::Rc;

use deno_core::{JsRuntime, v8};
use stockade_protocol::{CallId, FromIsolate, GuestError, Payload, RequestId, ToIsolate};
use stockade_realm::{GuestPort, Parts, guest_error};

use super::Isolate;
use crate::invoke::{invoke, string};
use crate::port::Kept;
use crate::script::{self, Stopped};
use crate::sys::alloc::charge;

/// What the code is called that runs before that of a run.
const PRELUDE: &str = "prelude.ts";

/// Calls, and their bytes, that may wait for the main module to come to its end.
const MOST_WAITING_CALLS: usize = 10_000;
const MOST_WAITING_BYTES: usize = 16 << 20;

impl Isolate {
    /// Handles a message, whose size is free in the host's queue once it is done.
    pub(super) fn handle(&mut self, message: ToIsolate, size: usize) {
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

    /// Whether one more call may wait for the main module. The answers that the module may wait for share the queue with
    /// the calls, which must leave them room.
    fn may_wait(&self, size: usize) -> bool {
        self.calls.len() < MOST_WAITING_CALLS
            && self.waiting_bytes.saturating_add(size) <= MOST_WAITING_BYTES
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
    pub(super) fn deliver_kept(&mut self) -> bool {
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
