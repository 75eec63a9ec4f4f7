//! Ops that carry the binary parts of messages in and out of a realm. Both realms use them.

use deno_core::{OpDecl, OpState, op2};
use deno_error::JsErrorBox;
use stockade_protocol::Payload;
use stockade_protocol::bounds::{MAX_MESSAGE_BYTES, MAX_MESSAGE_PARTS};

/// Binary parts on their way.
#[derive(Default)]
pub struct Parts {
    outgoing: Vec<Vec<u8>>,
    outgoing_bytes: usize,
    incoming: Vec<Option<Vec<u8>>>,
}

impl Parts {
    /// Offers the parts of a message that is about to be revived.
    pub fn offer(&mut self, bytes: Vec<Vec<u8>>) {
        self.incoming = bytes.into_iter().map(Some).collect();
    }

    /// Takes back what was offered: nobody wanted the message.
    pub fn retract(&mut self) -> Vec<Vec<u8>> {
        self.incoming.drain(..).flatten().collect()
    }
}

/// Makes a payload of the text and the parts that were added for it.
pub fn collect_payload(state: &mut OpState, json: String, marked: bool) -> Payload {
    let parts = state.borrow_mut::<Parts>();
    let bytes = if marked {
        std::mem::take(&mut parts.outgoing)
    } else {
        Vec::new()
    };
    parts.outgoing.clear();
    parts.outgoing_bytes = 0;
    Payload {
        json,
        bytes,
        marked,
    }
}

#[op2(fast)]
fn op_payload_clear(state: &mut OpState) {
    let parts = state.borrow_mut::<Parts>();
    parts.outgoing.clear();
    parts.outgoing_bytes = 0;
}

#[op2(fast)]
#[smi]
fn op_payload_add_bytes(state: &mut OpState, #[buffer] bytes: &[u8]) -> Result<u32, JsErrorBox> {
    let parts = state.borrow_mut::<Parts>();
    let total = parts.outgoing_bytes.saturating_add(bytes.len());
    if total > MAX_MESSAGE_BYTES {
        return Err(JsErrorBox::range_error(format!(
            "a message of more than {MAX_MESSAGE_BYTES} bytes"
        )));
    }
    if parts.outgoing.len() >= MAX_MESSAGE_PARTS {
        return Err(JsErrorBox::range_error(format!(
            "a message with more than {MAX_MESSAGE_PARTS} binary parts: put them into one"
        )));
    }
    parts.outgoing_bytes = total;
    parts.outgoing.push(bytes.to_vec());
    Ok(parts.outgoing.len() as u32 - 1)
}

#[op2(fast)]
#[smi]
fn op_payload_part_length(state: &mut OpState, #[smi] index: u32) -> Result<u32, JsErrorBox> {
    let part = state.borrow::<Parts>().incoming.get(index as usize);
    match part
        .and_then(Option::as_ref)
        .map(|bytes| u32::try_from(bytes.len()))
    {
        Some(Ok(length)) => Ok(length),
        _ => Err(no_part()),
    }
}

/// Copies a part into the realm's own memory, so that it counts against the isolate's budget.
#[op2(fast)]
fn op_payload_take_bytes(
    state: &mut OpState,
    #[smi] index: u32,
    #[buffer] target: &mut [u8],
) -> Result<(), JsErrorBox> {
    let parts = state.borrow_mut::<Parts>();
    let part = parts
        .incoming
        .get_mut(index as usize)
        .and_then(Option::take);
    let bytes = part
        .filter(|bytes| bytes.len() == target.len())
        .ok_or_else(no_part)?;
    target.copy_from_slice(&bytes);
    Ok(())
}

fn no_part() -> JsErrorBox {
    JsErrorBox::type_error("the message has no such part")
}

/// The ops, for an extension of either realm.
#[must_use]
pub(crate) fn payload_extension_ops() -> Vec<OpDecl> {
    vec![
        op_payload_clear(),
        op_payload_add_bytes(),
        op_payload_part_length(),
        op_payload_take_bytes(),
    ]
}
