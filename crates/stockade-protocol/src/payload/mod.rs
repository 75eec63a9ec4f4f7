//! The data of a message.

mod mark;
mod rename;
mod write;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use mark::{Attachment, MarkedString, escape_text};
pub use rename::{MarksError, marks_hold};
pub use write::{push_displayed, push_string, push_text};

use crate::bounds::PART_OVERHEAD;

/// JSON text, and the bytes that belong to it.
///
/// A `Uint8Array` or `ArrayBuffer` inside the data is taken out into `bytes` and leaves a *mark* in
/// the text: a string of U+0000, a letter for its kind (`b` for `Uint8Array`, `a` for `ArrayBuffer`,
/// `s` for a `ReadableStream`) and its index (a stream's id) in decimal. In a payload that has marks,
/// every other string that begins with U+0000 carries one more U+0000 in front, so no text can pass
/// for a mark. In a payload without marks the text is plain JSON. Names of members are never marks.
///
/// The body of a response may also be the mark `h` with the id of a stream that the receiver gave before and gets
/// back unread.
///
/// Calls between sites carry values that JSON has no word for by further marks: `u` for `undefined`, `f` with
/// `NaN`, `Infinity`, `-Infinity` or `-0`, `d` with a `Date`'s milliseconds, `i` with a `BigInt`'s hexadecimal
/// digits. A list whose first item is the mark `M` is a `Map` (keys and values in turn), `S` a `Set`, `E` an
/// `Error` (name, message, an object of its further properties). `r` with an id is a function or an object of the sender
/// that the receiver can call.
///
/// [`MarkedString`] reads a mark, [`Attachment`] writes one, [`Payload::rename_attachments`] checks all of a payload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Payload {
    /// JSON text; empty stands for `undefined`.
    pub json: String,
    /// The binary parts.
    pub bytes: Vec<Vec<u8>>,
    /// Whether `json` has marks.
    pub marked: bool,
}

/// A payload that is not what the caller asked for.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// The JSON does not fit the type asked for, or the value cannot be JSON.
    #[error("data does not fit: {0}")]
    Json(#[from] serde_json::Error),
    /// The data has binary parts or streams, which JSON types cannot hold.
    #[error("data holds bytes or streams: read `Payload::bytes` instead")]
    Marked,
}

/// The text of [`Payload::no_export`].
const NO_EXPORT: &str = "\"\\u0000n\"";

impl Payload {
    /// What a guest's runtime replies to a call of an export that there is not: a mark that no value of a
    /// guest becomes.
    #[must_use]
    pub fn no_export() -> Self {
        Self {
            json: NO_EXPORT.to_owned(),
            bytes: Vec::new(),
            marked: true,
        }
    }

    /// Whether it is [`Payload::no_export`].
    #[must_use]
    pub fn is_no_export(&self) -> bool {
        self.marked && self.json == NO_EXPORT
    }

    /// Serialises `value`.
    ///
    /// # Errors
    /// When `value` cannot be JSON, such as a map whose keys are not strings.
    pub fn new<T: Serialize + ?Sized>(value: &T) -> Result<Self, PayloadError> {
        Ok(Self {
            json: serde_json::to_string(value)?,
            bytes: Vec::new(),
            marked: false,
        })
    }

    /// Takes JSON text as it is. The receiving side parses it and fails where it is not JSON.
    #[must_use]
    pub fn from_json(json: String) -> Self {
        Self {
            json,
            bytes: Vec::new(),
            marked: false,
        }
    }

    /// One `Uint8Array`.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self {
            json: Attachment::Bytes(0).json().to_string(),
            bytes: vec![bytes],
            marked: true,
        }
    }

    /// Reads the data as `T`; `undefined` reads as `null`.
    ///
    /// # Errors
    /// When the data does not fit `T`, or holds bytes or streams.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, PayloadError> {
        if self.marked {
            return Err(PayloadError::Marked);
        }
        let json = if self.json.is_empty() {
            "null"
        } else {
            &self.json
        };
        Ok(serde_json::from_str(json)?)
    }

    /// Bytes this payload holds.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes
            .iter()
            .fold(self.json.len(), |sum, part| sum.saturating_add(part.len()))
    }

    /// What keeping this payload takes: [`Payload::size`], and something for each of its parts.
    #[must_use]
    pub fn kept_size(&self) -> usize {
        self.size()
            .saturating_add(self.bytes.len().saturating_mul(PART_OVERHEAD))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payload_undefined_reads_as_null() {
        assert_eq!(Payload::default().read::<Option<u8>>().unwrap(), None);
    }

    #[test]
    fn payload_of_no_export_is_distinct_from_a_text() {
        assert!(Payload::no_export().is_no_export());
        assert!(!Payload::from_json(NO_EXPORT.to_owned()).is_no_export());
    }

    #[test]
    fn payload_with_bytes_is_not_read_as_json() {
        let payload = Payload::from_bytes(vec![1, 2]);
        assert_eq!(payload.size(), payload.json.len() + 2);
        assert!(matches!(
            payload.read::<String>(),
            Err(PayloadError::Marked)
        ));
    }
}
