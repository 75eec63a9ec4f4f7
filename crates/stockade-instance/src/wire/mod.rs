//! The guest protocol's messages: written for the guest, read from it.
//!
//! Invariant: what is read here comes from a hostile process. It is parsed by a parser, once, and what does
//! not fit is a [`Malformed`] message, never a panic.

mod any;
mod ask;
mod call;
mod control;
mod request;
mod response;
mod text;

pub use any::parse_guest_message;
pub(crate) use ask::{
    AnswerBody, Ask, AskError, BindingCall, GuestRequest, TargetCall, answer_of, parse_ask,
};
pub(crate) use call::{export, import};
pub(crate) use control::{
    Fields, Ready, SocketOpen, parse_cron_done, parse_failed, parse_fields, parse_ready,
    parse_settled, parse_socket_open,
};
pub(crate) use request::{Prepared, RequestBody};
pub(crate) use response::{Head, parse_response};
pub(crate) use text::{Text, bytes_message};

use bytes::Bytes;
use stockade_protocol::{Attachment, MarkedString, Payload};

/// A message that no honest runtime sends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(pub(crate) String);

impl From<serde_json::Error> for Malformed {
    fn from(error: serde_json::Error) -> Self {
        Self(error.to_string())
    }
}

/// What stands where a body may stand in a guest's message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum GuestBody {
    /// `null`.
    None,
    /// All of it.
    Whole(Bytes),
    /// A stream of the guest's, by its id.
    Stream(u64),
    /// A stream of the host's that the guest gives back unread, by its id.
    Returned(u64),
}

impl GuestBody {
    /// Reads what stands in `text`, a piece of `json`, whose bytes stand in `parts`.
    fn read(
        text: Option<Text<'_>>,
        marked: bool,
        json: &Bytes,
        parts: &mut [Vec<u8>],
    ) -> Result<Self, Malformed> {
        let Some(text) = text else {
            return Ok(Self::None);
        };
        if !marked {
            return Ok(Self::Whole(text.into_bytes(json)));
        }
        let unescaped = match MarkedString::read(text.as_str()) {
            MarkedString::Text(plain) if plain.len() == text.as_str().len() => None,
            MarkedString::Text(plain) => Some(Bytes::copy_from_slice(plain.as_bytes())),
            MarkedString::Attachment(Attachment::Bytes(index)) => Some(take_part(index, parts)?),
            MarkedString::Attachment(Attachment::Stream(id)) => return Ok(Self::Stream(id)),
            MarkedString::Attachment(Attachment::Returned(id)) => return Ok(Self::Returned(id)),
            MarkedString::Attachment(Attachment::Target(_))
            | MarkedString::Value
            | MarkedString::Unknown => {
                return Err(Malformed("a body has a mark of no known kind".to_owned()));
            }
        };
        Ok(Self::Whole(
            unescaped.unwrap_or_else(|| text.into_bytes(json)),
        ))
    }
}

fn take_part(index: u64, parts: &mut [Vec<u8>]) -> Result<Bytes, Malformed> {
    let index = usize::try_from(index).unwrap_or(usize::MAX);
    parts
        .get_mut(index)
        .map(|part| Bytes::from(std::mem::take(part)))
        .ok_or_else(|| Malformed(format!("a mark names part {index}, which there is not")))
}

/// The text of a payload as bytes that parts of it can share.
fn shared_json(payload: &mut Payload) -> Bytes {
    Bytes::from(std::mem::take(&mut payload.json))
}

fn as_text(json: &Bytes) -> Result<&str, Malformed> {
    std::str::from_utf8(json).map_err(|_| Malformed("a message is not UTF-8".to_owned()))
}
