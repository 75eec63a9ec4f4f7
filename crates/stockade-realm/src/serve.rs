//! Ops of serve mode: what a handler answered goes to the host in one message.
//!
//! They are `op_guest_control` with the message put together here: text of a response leaves V8 as bytes,
//! not as JSON that both sides would have to escape and parse.

use std::fmt::Write;
use std::rc::Rc;

use deno_core::{OpState, op2, v8};
use deno_error::JsErrorBox;
use stockade_protocol::bounds::{MAX_ERROR_BYTES, MAX_MESSAGE_BYTES};
use stockade_protocol::{Attachment, FromIsolate, Payload, harmless};

use crate::guest::guest_error;
use crate::port::GuestPort;

/// The key of `env` that has an isolate serve; `js/serve.js` takes it out.
pub const SERVE: &str = "\0serve";

/// Where `env` says that the isolate runs code for a result: `{session, tools}`, with the names of the host's tools. Read by
/// `js/network.js` too.
pub const RUN: &str = "\0run";

fn send(state: &OpState, name: &str, data: Payload) -> Result<(), JsErrorBox> {
    if data.size() > MAX_MESSAGE_BYTES {
        return Err(JsErrorBox::range_error(format!(
            "a response of {} bytes is above the limit of {MAX_MESSAGE_BYTES}: stream it",
            data.size()
        )));
    }
    let port = Rc::clone(state.borrow::<Rc<dyn GuestPort>>());
    let name = name.to_owned();
    port.send(FromIsolate::Control { name, data })
        .map_err(JsErrorBox::generic)
}

/// `headers` is the JSON text of a flat list of names and values.
fn response(id: u64, status: u32, headers: &str, body: Vec<u8>, pending: bool) -> Payload {
    let mut json = String::with_capacity(headers.len() + 64);
    // Writing into memory does not fail.
    let body_mark = Attachment::Bytes(0).json();
    let _ = write!(json, "[{id},{status},{headers},{body_mark},null,{pending}]");
    Payload {
        json,
        bytes: vec![body],
        marked: true,
    }
}

#[op2(fast)]
pub(crate) fn op_guest_respond(
    state: &mut OpState,
    #[number] id: u64,
    #[smi] status: u32,
    #[string] headers: &str,
    #[string] body: String,
    pending: bool,
) -> Result<(), JsErrorBox> {
    let data = response(id, status, headers, body.into_bytes(), pending);
    send(state, "http.response", data)
}

#[op2(fast)]
pub(crate) fn op_guest_respond_bytes(
    state: &mut OpState,
    #[number] id: u64,
    #[smi] status: u32,
    #[string] headers: &str,
    #[buffer] body: &[u8],
    pending: bool,
) -> Result<(), JsErrorBox> {
    let data = response(id, status, headers, body.to_vec(), pending);
    send(state, "http.response", data)
}

/// Reports to the host what a handler threw.
#[op2(nofast, reentrant)]
pub(crate) fn op_guest_failed<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    state: Rc<std::cell::RefCell<OpState>>,
    #[number] id: u64,
    error: v8::Local<'s, v8::Value>,
) -> Result<(), JsErrorBox> {
    // Reading a guest's error runs its getters, which may call ops: no borrow is held meanwhile.
    let error = guest_error(scope, error);
    // The host logs what it came of together with its own frames.
    let stack = harmless(&error.trace(), MAX_ERROR_BYTES);
    // Numbers and texts always are JSON.
    let data = Payload::new(&(id, error.name, error.message, stack)).unwrap_or_default();
    send(&state.borrow(), "http.failed", data)
}
