//! Strings of JSON, as JavaScript writes them.

use std::borrow::Cow;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use stockade_protocol::{Attachment, Payload};

/// Bytes of a message that a text in it may keep, besides as many again as it has itself.
const MOST_WASTE: usize = 4096;

/// A string that JavaScript wrote. Its lone surrogates, which JSON may hold and UTF-8 may not, are U+FFFD,
/// as the platform's encoder has it (<https://encoding.spec.whatwg.org/#interface-textencoder>).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Text<'a>(Cow<'a, str>);

impl<'a> Text<'a> {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn into_string(self) -> String {
        self.0.into_owned()
    }

    /// The text as bytes: a piece of `json` where it was read from there as it stands. A piece that is a small part of
    /// `json` is a copy, so that little text does not keep a large message.
    pub(super) fn into_bytes(self, json: &Bytes) -> Bytes {
        match self.0 {
            Cow::Borrowed(text) if json.len() > 2 * text.len() + MOST_WASTE => {
                Bytes::copy_from_slice(text.as_bytes())
            }
            Cow::Borrowed("") => Bytes::new(),
            Cow::Borrowed(text) => json.slice_ref(text.as_bytes()),
            Cow::Owned(text) => Bytes::from(text),
        }
    }

    /// The first `max` bytes or a little less, for texts that are only shown.
    pub(crate) fn shortened(self, max: usize) -> String {
        if self.0.len() <= max {
            return self.into_string();
        }
        let mut end = max;
        while !self.0.is_char_boundary(end) {
            end -= 1;
        }
        format!("{}…", &self.0[..end])
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }

            fn visit_borrowed_bytes<E: Error>(self, bytes: &'de [u8]) -> Result<Text<'de>, E> {
                match std::str::from_utf8(bytes) {
                    Ok(text) => Ok(Text(Cow::Borrowed(text))),
                    Err(_) => self.visit_bytes(bytes),
                }
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Text<'de>, E> {
                let text = String::from_utf8(bytes.to_vec())
                    .or_else(|error| String::from_utf8(without_surrogates(error.into_bytes())));
                text.map(|text| Text(Cow::Owned(text)))
                    .map_err(|_| E::custom("a string is not UTF-8"))
            }
        }
        // As bytes: the parser then lets lone surrogates pass, each as three bytes.
        deserializer.deserialize_bytes(Reader)
    }
}

/// Puts U+FFFD in the place of each surrogate; both have three bytes.
fn without_surrogates(mut bytes: Vec<u8>) -> Vec<u8> {
    let mut at = 0;
    while at + 2 < bytes.len() {
        if bytes[at] == 0xED && bytes[at + 1] >= 0xA0 {
            bytes[at..at + 3].copy_from_slice("\u{FFFD}".as_bytes());
            at += 3;
        } else {
            at += 1;
        }
    }
    bytes
}

/// `{ "id": id, "<key>": bytes }`.
pub(crate) fn bytes_message(id: u64, key: &str, bytes: Vec<u8>) -> Payload {
    Payload {
        json: format!("{{\"id\":{id},\"{key}\":{}}}", Attachment::Bytes(0).json()),
        bytes: vec![bytes],
        marked: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> String {
        serde_json::from_str::<Text<'_>>(json)
            .unwrap()
            .into_string()
    }

    #[test]
    fn text_with_lone_surrogates_is_read_as_the_platform_encodes_it() {
        assert_eq!(read(r#""a\ud800b""#), "a\u{FFFD}b");
        assert_eq!(read(r#""\udc00\ud800""#), "\u{FFFD}\u{FFFD}");
        assert_eq!(read(r#""\ud83d\ude00é""#), "😀é");
        assert_eq!(read(r#""\ud7ff\ud800\ue000""#), "\u{D7FF}\u{FFFD}\u{E000}");
    }

    #[test]
    fn text_of_another_type_is_refused() {
        for json in ["1", "null", "[1,2]", "{}", "\"a"] {
            assert!(serde_json::from_str::<Text<'_>>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn text_that_is_little_of_its_message_does_not_keep_it() {
        let bytes_of = |text: &str, other: usize| {
            let json = Bytes::from(format!("[\"{text}\",\"{}\"]", "x".repeat(other)));
            let texts: Vec<Text<'_>> = serde_json::from_slice(&json).unwrap();
            let bytes = texts[0].clone().into_bytes(&json);
            assert_eq!(bytes, text);
            json.as_ptr_range().contains(&bytes.as_ptr())
        };
        assert!(!bytes_of("a", 1 << 20));
        assert!(!bytes_of("", 1 << 20));
        assert!(bytes_of(&"a".repeat(1 << 20), 1 << 10));
    }

    #[test]
    fn text_shortened_ends_at_a_character() {
        let text: Text<'_> = serde_json::from_str("\"aéé\"").unwrap();
        assert_eq!(text.clone().shortened(2), "a…");
        assert_eq!(text.shortened(5), "aéé");
    }
}
