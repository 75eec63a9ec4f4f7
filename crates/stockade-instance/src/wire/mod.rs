//! The guest protocol's messages: written for the guest, read from it.
//!
//! Invariant: what is read here comes from a hostile process. It is parsed by a parser, once, and what does
//! not fit is a [`Malformed`] message, never a panic.

mod any;
mod ask;
mod control;
mod parcel;
mod request;
mod response;
mod text;

pub use any::parse_guest_message;
pub(crate) use ask::{AnswerBody, Ask, Unasked, answer_of, parse_ask};
pub(crate) use control::{
    Fields, Ready, SocketOpen, parse_cron_done, parse_failed, parse_fields, parse_ready,
    parse_settled, parse_socket_open,
};
pub(crate) use parcel::{export, import};
pub(crate) use request::{Prepared, RequestBody};
pub(crate) use response::{Head, parse_response};
pub(crate) use text::{Text, bytes_message, push_text};

use bytes::Bytes;
use stockade_protocol::Payload;

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
        if marked && let Some(rest) = text.as_str().strip_prefix('\0') {
            return match rest.as_bytes().first() {
                Some(b'b' | b'a') => Ok(Self::Whole(take_part(&rest[1..], parts)?)),
                Some(b's') => Ok(Self::Stream(number(&rest[1..])?)),
                Some(b'h') => Ok(Self::Returned(number(&rest[1..])?)),
                Some(0) => Ok(Self::Whole(Bytes::copy_from_slice(rest.as_bytes()))),
                _ => Err(Malformed("a body has a mark of no known kind".to_owned())),
            };
        }
        Ok(Self::Whole(text.into_bytes(json)))
    }
}

fn number(digits: &str) -> Result<u64, Malformed> {
    digits
        .parse()
        .map_err(|_| Malformed("a mark has no number".to_owned()))
}

fn take_part(digits: &str, parts: &mut [Vec<u8>]) -> Result<Bytes, Malformed> {
    let index = usize::try_from(number(digits)?).unwrap_or(usize::MAX);
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
