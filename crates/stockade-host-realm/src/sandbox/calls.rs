//! Ops that wait for an isolate: evaluating, calling, and room in its queue.

use std::cell::RefCell;
use std::rc::Rc;

use deno_core::{OpState, op2};
use serde::Serialize;
use serde_json::{Value, json};
use stockade_protocol::{GuestError, Payload, Related};
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
    /// The guest threw: `name`, `message`, `stack` with the original lines, and `cause` and `errors` of the
    /// same form where there are any.
    Thrown {
        /// These, as JSON.
        error: String,
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
        Err(CallError::Guest(error)) => {
            let mut value = texts(&error);
            add_related(&mut value, &error.related, &texts);
            Outcome::Thrown {
                error: value.to_string(),
            }
        }
        Err(error) => Outcome::Failed {
            message: error.to_string(),
        },
    }
}

fn texts(error: &GuestError) -> Value {
    json!({ "name": error.name, "message": error.message, "stack": error.stack })
}

/// Puts what an error came of where scripts look for it: under `cause` and `errors` of the error that it
/// belongs to. `texts` makes the object of one error.
pub fn add_related(target: &mut Value, related: &[Related], texts: &impl Fn(&GuestError) -> Value) {
    let mut rest = related;
    while let Some((first, after)) = rest.split_first() {
        let own = after.iter().take_while(|next| next.depth > first.depth);
        let (own, others) = after.split_at(own.count());
        let mut value = texts(&first.error);
        add_related(&mut value, own, texts);
        if !first.member {
            target["cause"] = value;
        } else if let Some(Value::Array(errors)) = target.get_mut("errors") {
            errors.push(value);
        } else {
            target["errors"] = json!([value]);
        }
        rest = others;
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
    Ok(outcome(&state, result.map(|()| Payload::default())))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn add_related_nests_by_depth() {
        let related = |depth, member, text: &str| Related {
            depth,
            member,
            error: GuestError::new(text),
        };
        let list = [
            related(1, true, "a"),
            related(2, false, "why a"),
            related(1, true, "b"),
            related(1, false, "why"),
        ];
        let mut value = json!({});
        add_related(&mut value, &list, &|error| json!({ "m": error.message }));
        assert_eq!(
            value,
            json!({
                "errors": [{ "m": "a", "cause": { "m": "why a" } }, { "m": "b" }],
                "cause": { "m": "why" },
            })
        );
    }
}
