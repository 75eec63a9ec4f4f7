//! Ops that take effect at once: the hot path from the host to its isolates.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use deno_core::{OpState, op2, v8};
use serde::Serialize;
use stockade_grants::{GrantError, ProgramGrants};
use stockade_instance::set_serving;
use stockade_limits::OptionsError;
use stockade_protocol::{GuestError, RequestId};
use stockade_realm::collect_payload;
use stockade_supervisor::{CreateError, IsolateHandle, ProbeError, SendError};

use super::approvals::{Approvals, ForScript};
use super::http::{ServeError, serving};
use super::state::Sandboxes;

#[derive(Debug, thiserror::Error, deno_error::JsError)]
pub(crate) enum SandboxError {
    #[class(type)]
    #[error("the options are not a JSON object: {0}")]
    Json(String),
    #[class(type)]
    #[error(transparent)]
    Options(#[from] OptionsError),
    #[class(generic)]
    #[error(transparent)]
    Create(#[from] CreateError),
    #[class(generic)]
    #[error("isolate #{0} is destroyed")]
    Gone(u32),
    /// Has a class of its own, so that an answer can wait for room.
    #[class("Busy")]
    #[error(transparent)]
    Full(SendError),
    #[class(generic)]
    #[error(transparent)]
    Send(SendError),
    #[class(generic)]
    #[error(
        "data of {0} bytes was dropped: the host's heap is nearly full\n  fix: keep less of what guests send, or have fewer calls open at once"
    )]
    NoHeap(usize),
    #[class(generic)]
    #[error("there is no such sandbox")]
    NoSandbox,
    #[class(generic)]
    #[error(transparent)]
    Probe(#[from] ProbeError),
    #[class(generic)]
    #[error("{0}")]
    Profile(String),
    #[class(type)]
    #[error("seconds: {0}")]
    Seconds(String),
    #[class(type)]
    #[error("grants: {0}")]
    Grants(#[from] GrantError),
    #[class(type)]
    #[error(transparent)]
    Serve(#[from] ServeError),
}

impl From<SendError> for SandboxError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Full { .. } => Self::Full(error),
            _ => Self::Send(error),
        }
    }
}

pub(super) fn handle(
    state: &OpState,
    sandbox: u32,
    isolate: u32,
) -> Result<IsolateHandle, SandboxError> {
    state
        .borrow::<Sandboxes>()
        .handle((sandbox, isolate))
        .ok_or(SandboxError::Gone(isolate))
}

/// Gives an isolate something to do and keeps the event loop waiting for it.
fn give(
    state: &OpState,
    sandbox: u32,
    isolate: u32,
    work: impl FnOnce(&IsolateHandle) -> Result<(), SendError>,
) -> Result<(), SandboxError> {
    work(&handle(state, sandbox, isolate)?)?;
    state
        .borrow::<Sandboxes>()
        .hold(&state.external_ops_tracker);
    Ok(())
}

fn object(json: &str) -> Result<serde_json::Map<String, serde_json::Value>, SandboxError> {
    serde_json::from_str(json).map_err(|error| SandboxError::Json(error.to_string()))
}

#[op2(fast)]
#[smi]
pub(crate) fn op_sandbox_new(
    state: &mut OpState,
    #[string] options: &str,
) -> Result<u32, SandboxError> {
    let sandboxes = state.borrow::<Sandboxes>();
    let options = sandboxes.defaults().with_json(&object(options)?)?;
    Ok(sandboxes.add(options))
}

#[op2(fast)]
#[smi]
pub(crate) fn op_sandbox_threads(
    state: &mut OpState,
    #[smi] sandbox: u32,
) -> Result<u32, SandboxError> {
    let found = state.borrow::<Sandboxes>().get(sandbox);
    let (supervisor, _) = found.ok_or(SandboxError::NoSandbox)?;
    Ok(u32::try_from(supervisor.threads()).unwrap_or(u32::MAX))
}

#[op2(fast)]
#[smi]
pub(crate) fn op_sandbox_isolates(
    state: &mut OpState,
    #[smi] sandbox: u32,
) -> Result<u32, SandboxError> {
    let found = state.borrow::<Sandboxes>().get(sandbox);
    let (supervisor, _) = found.ok_or(SandboxError::NoSandbox)?;
    Ok(u32::try_from(supervisor.isolates()).unwrap_or(u32::MAX))
}

#[op2(fast)]
#[smi]
pub(crate) fn op_sandbox_abandoned(
    state: &mut OpState,
    #[smi] sandbox: u32,
) -> Result<u32, SandboxError> {
    let found = state.borrow::<Sandboxes>().get(sandbox);
    let (supervisor, _) = found.ok_or(SandboxError::NoSandbox)?;
    Ok(u32::try_from(supervisor.abandoned()).unwrap_or(u32::MAX))
}

#[op2(fast)]
pub(crate) fn op_sandbox_shutdown(
    state: &mut OpState,
    #[smi] sandbox: u32,
) -> Result<(), SandboxError> {
    let found = state.borrow::<Sandboxes>().get(sandbox);
    let (supervisor, _) = found.ok_or(SandboxError::NoSandbox)?;
    supervisor.shutdown();
    // Each isolate's end is still an event to come.
    let sandboxes = state.borrow::<Sandboxes>();
    sandboxes.update_hold(&state.external_ops_tracker);
    Ok(())
}

/// The new isolate's number and name.
#[derive(Serialize)]
pub(crate) struct Created {
    id: u32,
    name: Option<String>,
}

#[op2]
#[serde]
pub(crate) async fn op_sandbox_create(
    state: Rc<RefCell<OpState>>,
    #[smi] sandbox: u32,
    #[string] options: String,
    #[string] grants: String,
    #[serde] approvers: Vec<String>,
    #[string] serve: String,
) -> Result<Created, SandboxError> {
    let sandboxes = state.borrow().borrow::<Sandboxes>().clone();
    let (supervisor, queue) = sandboxes.get(sandbox).ok_or(SandboxError::NoSandbox)?;
    let mut options = supervisor
        .options()
        .defaults
        .with_json(&object(&options)?)?;
    let grants = match grants.as_str() {
        "" => BTreeMap::new(),
        json => ProgramGrants::read(json, Path::new("."))?,
    };
    ProgramGrants::name(&grants, &mut options.env)?;
    let serving = serving(&serve)?;
    if serving.is_some() {
        set_serving(&mut options);
    }
    let handle = supervisor.create(options, &queue).await?;
    let created = Created {
        id: handle.id(),
        name: handle.options().name.clone(),
    };
    let granted = sandboxes.grant(sandbox, &supervisor, &handle, &grants, approvers, serving);
    let granted = match granted {
        Ok(granted) => granted,
        Err(error) => {
            handle.destroy();
            return Err(error.into());
        }
    };
    sandboxes.insert(sandbox, handle, granted);
    // Its main module may be running already.
    sandboxes.update_hold(&state.borrow().external_ops_tracker);
    Ok(created)
}

/// The next question about a call of an isolate's grants; nothing when it has ended.
#[op2]
#[serde]
pub(crate) async fn op_grant_asked(
    state: Rc<RefCell<OpState>>,
    #[smi] sandbox: u32,
    #[smi] isolate: u32,
) -> Option<ForScript> {
    let approvals = approvals(&state.borrow(), sandbox, isolate)?;
    approvals.next().await
}

/// What the script has decided.
#[op2(fast)]
pub(crate) fn op_grant_decided(
    state: &mut OpState,
    #[smi] sandbox: u32,
    #[smi] isolate: u32,
    #[smi] number: u32,
    approved: bool,
) {
    if let Some(approvals) = approvals(state, sandbox, isolate) {
        approvals.decide(number, approved);
    }
}

fn approvals(state: &OpState, sandbox: u32, isolate: u32) -> Option<Rc<Approvals>> {
    let account = state.borrow::<Sandboxes>().account((sandbox, isolate))?;
    account.approvals()
}

/// The script has an object for the isolate: its events may come.
#[op2(fast)]
pub(crate) fn op_isolate_listen(
    state: &mut OpState,
    #[smi] sandbox: u32,
    #[smi] isolate: u32,
) -> Result<(), SandboxError> {
    handle(state, sandbox, isolate)?.listen();
    // Events may wait already.
    let sandboxes = state.borrow::<Sandboxes>();
    sandboxes.update_hold(&state.external_ops_tracker);
    Ok(())
}

#[op2(fast)]
pub(crate) fn op_isolate_execute(
    state: &mut OpState,
    #[smi] sandbox: u32,
    #[smi] isolate: u32,
    #[string] code: String,
) -> Result<(), SandboxError> {
    give(state, sandbox, isolate, |isolate| isolate.execute(code))
}

#[op2(fast)]
pub(crate) fn op_isolate_send(
    state: &mut OpState,
    #[smi] sandbox: u32,
    #[smi] isolate: u32,
    #[string] name: String,
    #[string] json: String,
    marked: bool,
) -> Result<(), SandboxError> {
    let data = collect_payload(state, json, marked);
    give(state, sandbox, isolate, |isolate| isolate.send(name, data))
}

#[op2(fast)]
pub(crate) fn op_isolate_control(
    state: &mut OpState,
    #[smi] sandbox: u32,
    #[smi] isolate: u32,
    #[string] name: String,
    #[string] json: String,
    marked: bool,
) -> Result<(), SandboxError> {
    let data = collect_payload(state, json, marked);
    give(state, sandbox, isolate, |isolate| {
        isolate.control(name, data)
    })
}

#[op2(fast)]
pub(crate) fn op_isolate_answer(
    state: &mut OpState,
    #[smi] sandbox: u32,
    #[smi] isolate: u32,
    #[number] request: u64,
    #[string] json: String,
    marked: bool,
) -> Result<(), SandboxError> {
    let data = collect_payload(state, json, marked);
    let request: RequestId = request;
    give(state, sandbox, isolate, |isolate| {
        isolate.answer(request, Ok(data))
    })?;
    (state.borrow::<Sandboxes>()).answered((sandbox, isolate), request);
    Ok(())
}

#[op2(fast)]
pub(crate) fn op_isolate_reject(
    state: &mut OpState,
    #[smi] sandbox: u32,
    #[smi] isolate: u32,
    #[number] request: u64,
    #[string] message: String,
) -> Result<(), SandboxError> {
    let error = GuestError::new(message);
    give(state, sandbox, isolate, |isolate| {
        isolate.answer(request, Err(error))
    })?;
    (state.borrow::<Sandboxes>()).answered((sandbox, isolate), request);
    Ok(())
}

#[op2(fast)]
pub(crate) fn op_isolate_destroy(state: &mut OpState, #[smi] sandbox: u32, #[smi] isolate: u32) {
    // Destroying twice is fine.
    if let Ok(handle) = handle(state, sandbox, isolate) {
        handle.destroy();
        // Its end is still an event to come.
        let sandboxes = state.borrow::<Sandboxes>();
        sandboxes.hold(&state.external_ops_tracker);
    }
}

/// Messages of an event go to this function; says whether some of it are kept.
#[op2(fast)]
pub(crate) fn op_isolate_handle_event(
    state: &mut OpState,
    scope: &mut v8::PinScope<'_, '_>,
    #[smi] sandbox: u32,
    #[smi] isolate: u32,
    #[string] event: String,
    receiver: v8::Local<'_, v8::Function>,
) -> bool {
    let account = state.borrow::<Sandboxes>().account((sandbox, isolate));
    account.is_some_and(|account| account.handle_event(event, v8::Global::new(scope, receiver)))
}

/// The script has no handler for an event any more.
#[op2(fast)]
pub(crate) fn op_isolate_ignore_event(
    state: &mut OpState,
    #[smi] sandbox: u32,
    #[smi] isolate: u32,
    #[string] event: &str,
) {
    if let Some(account) = state.borrow::<Sandboxes>().account((sandbox, isolate)) {
        account.ignore_event(event);
    }
}

/// Notes that the script answers a method.
#[op2(fast)]
pub(crate) fn op_isolate_handle_method(
    state: &mut OpState,
    #[smi] sandbox: u32,
    #[smi] isolate: u32,
    #[string] method: String,
) {
    if let Some(account) = state.borrow::<Sandboxes>().account((sandbox, isolate)) {
        account.handle_method(method);
    }
}

/// Whether a value is a promise that has not settled.
#[op2(fast)]
pub(crate) fn op_host_is_pending(value: v8::Local<'_, v8::Value>) -> bool {
    v8::Local::<v8::Promise>::try_from(value)
        .is_ok_and(|promise| promise.state() == v8::PromiseState::Pending)
}

/// Handlers of an event are at work on data of this cost.
#[op2(fast)]
pub(crate) fn op_isolate_hold(
    state: &mut OpState,
    #[smi] sandbox: u32,
    #[smi] isolate: u32,
    #[number] cost: u64,
) {
    let cost = usize::try_from(cost).unwrap_or(usize::MAX);
    (state.borrow::<Sandboxes>()).hold_data((sandbox, isolate), cost);
}

/// Such handlers have come to their end.
#[op2(fast)]
pub(crate) fn op_isolate_let_go(
    state: &mut OpState,
    #[smi] sandbox: u32,
    #[smi] isolate: u32,
    #[number] cost: u64,
) {
    let cost = usize::try_from(cost).unwrap_or(usize::MAX);
    (state.borrow::<Sandboxes>()).let_data_go((sandbox, isolate), cost);
}

/// The guest has given a request up; whether it still waited for its handler.
#[op2(fast)]
pub(crate) fn op_isolate_withdraw(
    state: &mut OpState,
    #[smi] sandbox: u32,
    #[smi] isolate: u32,
    #[number] request: u64,
) -> bool {
    (state.borrow::<Sandboxes>()).withdraw((sandbox, isolate), request)
}

/// What scripts see of an isolate's use.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct IsolateStats {
    cpu_ms: f64,
    memory_mb: f64,
    queued_to: usize,
    queued_from: usize,
    requests: usize,
    calls: usize,
}

#[op2]
#[serde]
pub(crate) fn op_isolate_stats(
    state: &mut OpState,
    #[smi] sandbox: u32,
    #[smi] isolate: u32,
) -> Result<IsolateStats, SandboxError> {
    let stats = handle(state, sandbox, isolate)?.stats();
    Ok(IsolateStats {
        cpu_ms: stats.cpu.as_secs_f64() * 1e3,
        memory_mb: stats.memory as f64 / f64::from(1 << 20),
        queued_to: stats.queued_to,
        queued_from: stats.queued_from,
        requests: stats.requests,
        calls: stats.calls,
    })
}
