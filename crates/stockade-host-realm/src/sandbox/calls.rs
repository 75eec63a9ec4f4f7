//! Ops that wait for an isolate: evaluating, calling, and room in its queue.

use std::cell::RefCell;
use std::rc::Rc;

use deno_core::{OpState, op2};
use serde::Serialize;
use stockade_protocol::Payload;
use stockade_realm::{Parts, collect_payload};
use stockade_supervisor::CallError;

use super::ops::{SandboxError, handle};

/// What came of a call. The guest's errors are data here: the realm makes the `Error` of them.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// It gave a value.
    Value {
        /// Its JSON, empty for `undefined`.
        json: String,
        /// Whether bytes belong to it: offer them by this number before reviving.
        parts: Option<u32>,
    },
    /// The guest threw.
    Thrown {
        /// Such as `TypeError`.
        name: String,
        /// The message alone.
        message: String,
        /// With the original lines.
        stack: Option<String>,
    },
    /// The call could not be made, or the isolate ended.
    Failed {
        /// Why.
        message: String,
    },
}

/// Bytes of replies that JavaScript has not fetched yet.
#[derive(Default)]
pub(crate) struct WaitingParts {
    parts: std::collections::HashMap<u32, Vec<Vec<u8>>>,
    next: u32,
}

fn outcome(state: &Rc<RefCell<OpState>>, result: Result<Payload, CallError>) -> Outcome {
    match result {
        Ok(payload) => {
            let parts = payload.marked.then(|| {
                let mut state = state.borrow_mut();
                let waiting = state.borrow_mut::<WaitingParts>();
                waiting.next = waiting.next.wrapping_add(1);
                waiting.parts.insert(waiting.next, payload.bytes);
                waiting.next
            });
            Outcome::Value {
                json: payload.json,
                parts,
            }
        }
        Err(CallError::Guest(error)) => Outcome::Thrown {
            name: error.name,
            message: error.message,
            stack: error.stack,
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
    Ok(outcome(&state, result))
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
        let result = handle?.call(name, args).await;
        Ok(outcome(&state, result))
    }
}

/// Makes the bytes of a reply the ones that reviving takes.
#[op2(fast)]
pub(crate) fn op_isolate_offer(state: &mut OpState, #[smi] number: u32) {
    let bytes = state.borrow_mut::<WaitingParts>().parts.remove(&number);
    state.borrow_mut::<Parts>().offer(bytes.unwrap_or_default());
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
