//! What guests send to bindings: JSON with marks where bytes and streams belong, and back.
//!
//! [`Payload`] describes marks. Everything read here is hostile: a mark without its part, or used twice, is
//! an error of the guest.

use bytes::Bytes;
use serde_json::{Map, Value};
use stockade_http::Body;
use stockade_instance::Parcel;
use stockade_protocol::{Attachment, GuestError, MarkedString, Payload, escape_text};

/// Bytes of JSON that are read for one call: parsed they take many times as many. Contents of files are
/// beside it.
const MAX_ARGUMENTS: usize = 64 << 10;

/// An error as JavaScript's own functions throw it for a bad argument.
pub(crate) fn type_error(message: impl Into<String>) -> GuestError {
    GuestError {
        name: "TypeError".to_owned(),
        ..GuestError::new(message)
    }
}

/// Arguments of a call, with their parts.
pub(crate) struct Arguments {
    pub(crate) list: Vec<Value>,
    marked: bool,
    bytes: Vec<Option<Vec<u8>>>,
    streams: Vec<Option<Body>>,
}

/// Takes what is at `index`; `None` for all but the first.
fn take<T>(parts: &mut [Option<T>], index: u64) -> Option<T> {
    parts.get_mut(usize::try_from(index).ok()?)?.take()
}

/// Why arguments cannot be read. The engine writes valid JSON, which holds halves of surrogate pairs where the
/// guest's texts do.
fn misread(json: &str, error: &serde_json::Error) -> GuestError {
    if error.is_syntax() && json.contains("\\ud") {
        return type_error(
            "a path must be Unicode text, and half a surrogate pair is none: toWellFormed() replaces it",
        );
    }
    type_error("the arguments are not an array")
}

impl Arguments {
    /// Reads the array of arguments.
    pub(crate) fn read(parcel: Parcel) -> Result<Self, GuestError> {
        let Payload {
            json,
            bytes,
            marked,
        } = parcel.payload;
        if json.len() > MAX_ARGUMENTS {
            return Err(type_error(format!(
                "the arguments have {} bytes beside their data, more than {MAX_ARGUMENTS}",
                json.len()
            )));
        }
        let list = if json.is_empty() {
            Vec::new()
        } else {
            serde_json::from_str(&json).map_err(|error| misread(&json, &error))?
        };
        Ok(Self {
            list,
            marked,
            bytes: bytes.into_iter().map(Some).collect(),
            streams: parcel.streams.into_iter().map(Some).collect(),
        })
    }

    /// Takes the object that is the only argument.
    pub(crate) fn object(&mut self) -> Result<Map<String, Value>, GuestError> {
        match self.list.pop() {
            Some(Value::Object(object)) if self.list.is_empty() => Ok(object),
            _ => Err(type_error("the argument is not one object")),
        }
    }

    /// A text of the data, as the guest had it.
    pub(crate) fn text(&self, value: Value) -> Result<String, GuestError> {
        match value {
            Value::String(text) if !self.marked => Ok(text),
            Value::String(text) => match MarkedString::read(&text) {
                MarkedString::Text(text) => Ok(text.to_owned()),
                _ => Err(type_error("there must be a text, not bytes")),
            },
            _ => Err(type_error("there must be a text")),
        }
    }

    /// Takes bytes of the data.
    pub(crate) fn bytes(&mut self, value: &Value) -> Result<Vec<u8>, GuestError> {
        let taken = match self.attachment(value) {
            Some(Attachment::Bytes(index)) => take(&mut self.bytes, index),
            _ => None,
        };
        taken.ok_or_else(|| type_error("there must be bytes"))
    }

    /// What a mark of the data refers to.
    fn attachment(&self, value: &Value) -> Option<Attachment> {
        match MarkedString::read(value.as_str().filter(|_| self.marked)?) {
            MarkedString::Attachment(attachment) => Some(attachment),
            _ => None,
        }
    }

    /// Takes bytes or a stream of the data, as a body.
    pub(crate) fn body(&mut self, value: &Value) -> Result<Body, GuestError> {
        if let Some(Attachment::Stream(index)) = self.attachment(value) {
            let taken = take(&mut self.streams, index);
            return taken.ok_or_else(|| type_error("the stream was used before"));
        }
        Ok(full(self.bytes(value)?))
    }
}

/// A body that is there at once.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    use http_body_util::{BodyExt, Full};
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// Data for a guest, with marks where parts belong.
#[derive(Default)]
pub(crate) struct Reply {
    bytes: Vec<Vec<u8>>,
    streams: Vec<Body>,
}

impl Reply {
    /// A text that cannot pass for a mark.
    pub(crate) fn text(text: &str) -> Value {
        Value::from(escape_text(text))
    }

    /// A `Uint8Array`.
    pub(crate) fn bytes(&mut self, bytes: Vec<u8>) -> Value {
        let mark = Attachment::Bytes(self.bytes.len() as u64);
        self.bytes.push(bytes);
        Value::from(mark.to_string())
    }

    /// A `ReadableStream`.
    pub(crate) fn stream(&mut self, body: Body) -> Value {
        let mark = Attachment::Stream(self.streams.len() as u64);
        self.streams.push(body);
        Value::from(mark.to_string())
    }

    /// The whole, whose texts were all made by [`Reply::text`].
    pub(crate) fn parcel(self, value: &Value) -> Parcel {
        Parcel {
            payload: Payload {
                json: value.to_string(),
                bytes: self.bytes,
                marked: true,
            },
            streams: self.streams,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn arguments(json: &Value, bytes: Vec<Vec<u8>>, marked: bool) -> Arguments {
        let payload = Payload {
            json: json.to_string(),
            bytes,
            marked,
        };
        Arguments::read(payload.into()).unwrap()
    }

    #[test]
    fn arguments_take_each_part_once() {
        let json = json!([{ "a": "\0b0", "b": "\0\0b0", "c": "\0b7", "d": "\0x", "e": "\0s0" }]);
        let mut given = arguments(&json, vec![vec![1]], true);
        let object = given.object().unwrap();
        assert_eq!(given.bytes(&object["a"]).unwrap(), [1]);
        assert!(given.bytes(&object["a"]).is_err());
        assert_eq!(given.text(object["b"].clone()).unwrap(), "\0b0");
        for key in ["c", "d", "e"] {
            assert!(given.bytes(&object[key]).is_err(), "{key}");
            assert!(given.body(&object[key]).is_err(), "{key}");
            assert!(given.text(object[key].clone()).is_err(), "{key}");
        }
    }

    #[test]
    fn arguments_without_marks_are_plain() {
        let mut given = arguments(&json!([{ "a": "\0b0" }]), Vec::new(), false);
        let object = given.object().unwrap();
        assert_eq!(given.text(object["a"].clone()).unwrap(), "\0b0");
        assert!(given.bytes(&object["a"]).is_err());
    }

    #[test]
    fn arguments_that_are_no_object_are_refused() {
        for json in [json!([]), json!([1]), json!([{}, {}])] {
            assert!(arguments(&json, Vec::new(), false).object().is_err());
        }
        assert!(Arguments::read(Payload::from_json("{}".to_owned()).into()).is_err());
        let deep = "[".repeat(MAX_ARGUMENTS / 2);
        let large = format!("[{}0]", "0,".repeat(MAX_ARGUMENTS / 2));
        for json in [deep, large] {
            assert!(Arguments::read(Payload::from_json(json).into()).is_err());
        }
    }

    #[test]
    fn arguments_with_half_a_surrogate_pair_are_refused() {
        for json in [r#"[{"path":"a\ud800"}]"#, r#"[{"\udfff":1}]"#] {
            let payload = Payload::from_json(json.to_owned());
            let error = Arguments::read(payload.into()).err().unwrap();
            assert_eq!(error.name, "TypeError");
            assert!(error.message.contains("surrogate"), "{}", error.message);
        }
    }

    #[test]
    fn reply_text_cannot_pass_for_a_mark() {
        let mut reply = Reply::default();
        let value = json!([reply.bytes(vec![1]), Reply::text("\0b0"), Reply::text("x")]);
        let parcel = reply.parcel(&value);
        assert_eq!(parcel.payload.json, r#"["\u0000b0","\u0000\u0000b0","x"]"#);
    }
}
