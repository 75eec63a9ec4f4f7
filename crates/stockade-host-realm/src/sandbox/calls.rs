//! Ops that wait for an isolate: evaluating, calling, and room in its queue.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use deno_core::{OpState, op2, v8};
use serde::Serialize;
use stockade_protocol::Payload;
use stockade_protocol::bounds::MAX_MESSAGE_VALUES;
use stockade_realm::{Parts, collect_payload};
use stockade_supervisor::{CallError, IsolateHandle, TerminateReason};

use super::account::HANDLER;
use super::account::IsolateKey;
use super::ops::{SandboxError, handle};
use super::parse::parse;
use super::state::Sandboxes;
use super::thrown::error_json;

/// What came of a call. The guest's errors are data here: the realm makes the `Error` of them.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// It gave a value.
    Value(Waiting),
    /// The guest threw: `name`, `message`, `stack` with the original lines, and `cause` and `errors` of the
    /// same form where there are any.
    Thrown {
        /// These, as JSON.
        error: String,
    },
    /// The call could not be made: what it held is its caller's again.
    Unsent {
        /// Why.
        message: String,
    },
    /// There is no reply.
    Failed {
        /// Why.
        message: String,
    },
}

/// Data that waits as text until JavaScript takes it with [`op_isolate_take`].
#[derive(Serialize)]
pub(crate) struct Waiting {
    number: u32,
    /// Whether bytes or streams belong to it.
    marked: bool,
    /// What it costs in the host's heap, with a handler for it.
    cost: u64,
}

/// What waits.
#[derive(Default)]
pub(crate) struct WaitingData {
    data: HashMap<u32, (IsolateKey, Payload)>,
    next: u32,
}

impl WaitingData {
    fn put(&mut self, key: IsolateKey, data: Payload) -> Waiting {
        self.next = self.next.wrapping_add(1);
        let marked = data.marked;
        let cost = data.weigh().total().saturating_add(HANDLER) as u64;
        self.data.insert(self.next, (key, data));
        Waiting {
            number: self.next,
            marked,
            cost,
        }
    }
}

fn outcome(
    state: &Rc<RefCell<OpState>>,
    key: IsolateKey,
    handle: &IsolateHandle,
    result: Result<Payload, CallError>,
) -> Outcome {
    match result {
        Ok(data) => {
            if let Err(values) = data.check_values(MAX_MESSAGE_VALUES) {
                let what = format!(
                    "a reply whose values take {values} bytes of heap; the limit is {MAX_MESSAGE_VALUES}"
                );
                handle.terminate(TerminateReason::PolicyViolation, what.clone());
                return Outcome::Failed { message: what };
            }
            let mut state = state.borrow_mut();
            Outcome::Value(state.borrow_mut::<WaitingData>().put(key, data))
        }
        Err(CallError::Guest(error)) => Outcome::Thrown {
            error: error_json(&error).to_string(),
        },
        Err(CallError::Send(error)) => Outcome::Unsent {
            message: error.to_string(),
        },
        Err(error) => Outcome::Failed {
            message: error.to_string(),
        },
    }
}

#[op2]
#[serde]
pub(crate) async fn op_isolate_evaluate(
    state: Rc<RefCell<OpState>>,
    #[smi] sandbox: u32,
    #[smi] isolate: u32,
    #[string] code: String,
) -> Result<Outcome, SandboxError> {
    let handle = handle(&state.borrow(), sandbox, isolate)?;
    let result = handle.evaluate(code).await;
    handle.events_taken().await;
    Ok(outcome(&state, (sandbox, isolate), &handle, result))
}

/// Waits until the isolate's main module has run.
#[op2]
#[serde]
pub(crate) async fn op_isolate_ready(
    state: Rc<RefCell<OpState>>,
    #[smi] sandbox: u32,
    #[smi] isolate: u32,
) -> Result<Outcome, SandboxError> {
    let handle = handle(&state.borrow(), sandbox, isolate)?;
    let result = handle.ready().await;
    handle.events_taken().await;
    let result = result.map(|()| Payload::default());
    Ok(outcome(&state, (sandbox, isolate), &handle, result))
}

/// The arguments' bytes are collected before the first wait, while they are this call's.
#[op2]
#[serde]
pub(crate) fn op_isolate_call(
    state: Rc<RefCell<OpState>>,
    #[smi] sandbox: u32,
    #[smi] isolate: u32,
    #[string] name: String,
    #[string] args: String,
    marked: bool,
) -> impl Future<Output = Result<Outcome, SandboxError>> {
    let args = collect_payload(&mut state.borrow_mut(), args, marked);
    let handle = handle(&state.borrow(), sandbox, isolate);
    async move {
        let handle = handle?;
        let result = handle.call(name, args).await;
        handle.events_taken().await;
        Ok(outcome(&state, (sandbox, isolate), &handle, result))
    }
}

/// The oldest message of an event that was kept for want of a handler.
#[op2]
#[serde]
pub(crate) fn op_isolate_unstash(
    state: &mut OpState,
    #[smi] sandbox: u32,
    #[smi] isolate: u32,
    #[string] event: &str,
) -> Option<Waiting> {
    let key = (sandbox, isolate);
    let data = state.borrow::<Sandboxes>().account(key)?.unstash(event)?;
    Some(state.borrow_mut::<WaitingData>().put(key, data))
}

/// Parses data that waits, and offers its bytes to those who revive it.
#[op2]
pub(crate) fn op_isolate_take<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    state: Rc<RefCell<OpState>>,
    #[smi] number: u32,
) -> Result<v8::Local<'s, v8::Value>, SandboxError> {
    let taken = {
        let mut state = state.borrow_mut();
        state.borrow_mut::<WaitingData>().data.remove(&number)
    };
    let Some((key, data)) = taken else {
        return Ok(v8::undefined(scope).into());
    };
    let admitted = (state.borrow().borrow::<Sandboxes>()).admits(key, &data);
    if !admitted {
        return Err(SandboxError::NoHeap(data.size()));
    }
    if data.marked {
        let mut state = state.borrow_mut();
        state.borrow_mut::<Parts>().offer(data.bytes);
    }
    // A value without JSON has been thrown already.
    let value = parse(scope, data.json);
    Ok(value.unwrap_or_else(|| v8::undefined(scope).into()))
}

/// Resolves when at most half of the isolate's queue is in use.
#[op2]
pub(crate) async fn op_isolate_drain(
    state: Rc<RefCell<OpState>>,
    #[smi] sandbox: u32,
    #[smi] isolate: u32,
) -> Result<(), SandboxError> {
    let handle = handle(&state.borrow(), sandbox, isolate)?;
    handle.drain().await;
    Ok(())
}
