//! The value that a call gives.

use std::borrow::Cow;

use serde::Serialize;
use stockade_http::Body;
use stockade_protocol::{Attachment, GuestError, Payload, escape_text};

use crate::{CallPayload, ErrorName};

/// Collects the bytes and streams of a value. Where the value holds a text that somebody else chose, that text goes
/// through [`Reply::text`], so that it cannot pass for a mark.
#[derive(Default)]
pub struct Reply {
    bytes: Vec<Vec<u8>>,
    streams: Vec<Body>,
    escaped: bool,
}

impl Reply {
    /// A value without bytes, streams and texts that somebody else chose.
    ///
    /// # Errors
    /// As [`Reply::finish`].
    pub fn plain<T: Serialize>(value: &T) -> Result<CallPayload, GuestError> {
        Self::default().finish(value)
    }

    /// A text, as it stands in the value.
    pub fn text<'a>(&mut self, text: &'a str) -> Cow<'a, str> {
        let text = escape_text(text);
        self.escaped |= matches!(text, Cow::Owned(_));
        text
    }

    /// A `Uint8Array`, as it stands in the value.
    pub fn bytes(&mut self, bytes: Vec<u8>) -> Attachment {
        self.bytes.push(bytes);
        Attachment::Bytes(self.bytes.len() as u64 - 1)
    }

    /// A `ReadableStream`, as it stands in the value.
    pub fn stream(&mut self, body: Body) -> Attachment {
        self.streams.push(body);
        Attachment::Stream(self.streams.len() as u64 - 1)
    }

    /// The value with what was collected for it.
    ///
    /// # Errors
    /// When `value` cannot be JSON, such as a map whose keys are not strings.
    pub fn finish<T: Serialize>(self, value: &T) -> Result<CallPayload, GuestError> {
        let json = serde_json::to_string(value).map_err(|error| {
            ErrorName::Type.error(format!("the value cannot be given: {error}"))
        })?;
        Ok(CallPayload {
            payload: Payload {
                json,
                marked: self.escaped || !self.bytes.is_empty() || !self.streams.is_empty(),
                bytes: self.bytes,
            },
            streams: self.streams,
            targets: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reply_text_cannot_pass_for_a_mark() {
        let mut reply = Reply::default();
        let value = json!([reply.bytes(vec![1]), reply.text("\0b0"), reply.text("x")]);
        let payload = reply.finish(&value).unwrap().payload;
        assert!(payload.marked);
        assert_eq!(payload.json, r#"["\u0000b0","\u0000\u0000b0","x"]"#);
        let mut reply = Reply::default();
        let value = [reply.text("\0s0")];
        let payload = reply.finish(&value).unwrap().payload;
        assert_eq!(payload.into_plain_json().unwrap(), r#"["\u0000s0"]"#);
    }

    #[test]
    fn reply_without_parts_has_no_marks() {
        let payload = Reply::plain(&json!({ "a": [1, null] })).unwrap().payload;
        assert_eq!(payload, Payload::from_json(r#"{"a":[1,null]}"#.to_owned()));
    }
}
