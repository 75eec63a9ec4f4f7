//! The arguments of a call, read as what a hostile guest wrote.

use serde::de::DeserializeOwned;
use stockade_http::{Body, full_body};
use stockade_protocol::{Attachment, GuestError, MarkedString, Payload};

use crate::{CallPayload, ErrorName};

impl CallPayload {
    /// Reads the one argument of a call, an object of at most `max` bytes of JSON: parsed, it takes a multiple of that.
    ///
    /// Its texts and marks are `String`s in `T`, and [`Attachments`] gives what they stand for.
    ///
    /// # Errors
    /// A `RangeError` for a text that is too long, a `TypeError` for one that is not exactly one `T`.
    pub fn read<T: DeserializeOwned>(self, max: usize) -> Result<(T, Attachments), GuestError> {
        let Payload {
            json,
            bytes,
            marked,
        } = self.payload;
        if json.len() > max {
            return Err(ErrorName::Range.error(format!(
                "arguments of {} bytes are too long, the data of bytes and streams not counted: at most {max} are read",
                json.len()
            )));
        }
        // A struct would be read from a list of its fields as well, which no approver of the call expects.
        let inner = json.trim_ascii_start().strip_prefix('[');
        if !inner.is_some_and(|inner| inner.trim_ascii_start().starts_with('{')) {
            return Err(ErrorName::Type.error("the arguments do not fit: one object is needed"));
        }
        let [argument] =
            serde_json::from_str::<[T; 1]>(&json).map_err(|error| misread(&json, &error))?;
        let attachments = Attachments {
            marked,
            bytes: bytes.into_iter().map(Some).collect(),
            streams: self.streams.into_iter().map(Some).collect(),
        };
        Ok((argument, attachments))
    }
}

/// Why arguments cannot be read. The engine writes valid JSON, which holds halves of surrogate pairs where the
/// texts of the guest do.
fn misread(json: &str, error: &serde_json::Error) -> GuestError {
    ErrorName::Type.error(if error.is_syntax() && json.contains("\\ud") {
        "texts must be Unicode, and half a surrogate pair is none: toWellFormed() replaces it"
            .to_owned()
    } else {
        format!("the arguments do not fit: {error}")
    })
}

/// What the marks in the arguments of a call stand for. Each binary part and each stream is taken once.
pub struct Attachments {
    marked: bool,
    bytes: Vec<Option<Vec<u8>>>,
    streams: Vec<Option<Body>>,
}

impl Attachments {
    /// The text that a string of the arguments stands for.
    ///
    /// # Errors
    /// When the string is a mark.
    pub fn text<'a>(&self, string: &'a str) -> Result<&'a str, GuestError> {
        if !self.marked {
            return Ok(string);
        }
        match MarkedString::read(string) {
            MarkedString::Text(text) => Ok(text),
            _ => Err(ErrorName::Type.error("a text is needed, not bytes")),
        }
    }

    /// Takes the bytes that a string of the arguments stands for.
    ///
    /// # Errors
    /// When it stands for no bytes, or for some that were taken before.
    pub fn bytes(&mut self, string: &str) -> Result<Vec<u8>, GuestError> {
        let taken = match self.attachment(string) {
            Some(Attachment::Bytes(index)) => take(&mut self.bytes, index),
            _ => None,
        };
        taken.ok_or_else(|| ErrorName::Type.error("bytes are needed, used once"))
    }

    /// Takes the bytes or the stream that a string of the arguments stands for, as a body.
    ///
    /// # Errors
    /// When it stands for neither, or for what was taken before.
    pub fn body(&mut self, string: &str) -> Result<Body, GuestError> {
        if let Some(Attachment::Stream(index)) = self.attachment(string) {
            let taken = take(&mut self.streams, index);
            return taken.ok_or_else(|| ErrorName::Type.error("the stream was used before"));
        }
        Ok(full_body(self.bytes(string)?))
    }

    fn attachment(&self, string: &str) -> Option<Attachment> {
        match MarkedString::read(string) {
            MarkedString::Attachment(attachment) if self.marked => Some(attachment),
            _ => None,
        }
    }
}

/// Takes what is at `index`; `None` for all but the first.
fn take<T>(parts: &mut [Option<T>], index: u64) -> Option<T> {
    parts.get_mut(usize::try_from(index).ok()?)?.take()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;

    type Texts = BTreeMap<String, String>;

    fn read<T: DeserializeOwned>(
        json: impl ToString,
        bytes: Vec<Vec<u8>>,
        marked: bool,
    ) -> Result<(T, Attachments), GuestError> {
        let payload = Payload {
            json: json.to_string(),
            bytes,
            marked,
        };
        CallPayload::from(payload).read(1000)
    }

    #[test]
    fn arguments_give_each_part_once() {
        let json = json!([{ "a": "\0b0", "b": "\0\0b0", "c": "\0b7", "d": "\0x", "e": "\0s0", "f": "\0u" }]);
        let (texts, mut attachments) = read::<Texts>(json, vec![vec![1]], true).unwrap();
        assert_eq!(attachments.bytes(&texts["a"]).unwrap(), [1]);
        assert!(attachments.bytes(&texts["a"]).is_err());
        assert_eq!(attachments.text(&texts["b"]).unwrap(), "\0b0");
        for key in ["c", "d", "e", "f"] {
            assert!(attachments.bytes(&texts[key]).is_err(), "{key}");
            assert!(attachments.body(&texts[key]).is_err(), "{key}");
            assert!(attachments.text(&texts[key]).is_err(), "{key}");
        }
        assert!(attachments.text(&texts["a"]).is_err());
    }

    #[test]
    fn arguments_give_each_stream_once() {
        let payload = Payload {
            json: r#"[{"a":"\u0000s0"}]"#.to_owned(),
            marked: true,
            ..Payload::default()
        };
        let call = CallPayload {
            payload,
            streams: vec![stockade_http::empty_body()],
            targets: Vec::new(),
        };
        let (texts, mut attachments) = call.read::<Texts>(1000).unwrap();
        assert!(attachments.body(&texts["a"]).is_ok());
        let error = attachments.body(&texts["a"]).err().unwrap();
        assert!(error.message.contains("used before"), "{error}");
    }

    #[test]
    fn arguments_without_marks_are_plain() {
        let (texts, mut attachments) =
            read::<Texts>(json!([{ "a": "\0b0" }]), vec![vec![1]], false).unwrap();
        assert_eq!(attachments.text(&texts["a"]).unwrap(), "\0b0");
        assert!(attachments.bytes(&texts["a"]).is_err());
    }

    #[test]
    fn arguments_that_are_not_the_one_that_is_needed_are_refused() {
        for json in [json!([]), json!([1]), json!([{}, {}]), json!({}), json!("")] {
            let error = read::<Texts>(&json, Vec::new(), false).err().unwrap();
            assert_eq!(error.name, "TypeError", "{json}: {error}");
        }
        for json in ["", "[", "[{}]x", "\0"] {
            let error = read::<Texts>(json, Vec::new(), false).err().unwrap();
            assert_eq!(error.name, "TypeError", "{json}: {error}");
        }
    }

    #[test]
    fn arguments_that_are_long_or_deep_are_refused() {
        let long = format!("[{}0]", "0,".repeat(500));
        let error = read::<Value>(long, Vec::new(), false).err().unwrap();
        assert_eq!(error.name, "RangeError");
        let deep = format!("{}{}", "[".repeat(499), "]".repeat(499));
        let error = read::<Value>(deep, Vec::new(), false).err().unwrap();
        assert_eq!(error.name, "TypeError");
    }

    #[test]
    fn arguments_with_half_a_surrogate_pair_are_refused() {
        for json in [r#"[{"path":"a\ud800"}]"#, r#"[{"\udfff":"b"}]"#] {
            let error = read::<Texts>(json, Vec::new(), false).err().unwrap();
            assert_eq!(error.name, "TypeError");
            assert!(error.message.contains("surrogate"), "{error}");
        }
    }
}
