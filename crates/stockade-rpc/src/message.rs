//! Checks a message before the JSON-RPC library reads it.
//!
//! The library takes an object whose `id` it does not know (a negative number, a list, a text with half a
//! surrogate pair) for a notification: it would be carried out and never answered. And it calls JSON that is
//! neither an object nor a list no JSON. Such messages are found here.

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// What a message is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Checked {
    /// For the library, as it came or with what it must not see made unmistakably invalid.
    Pass(Vec<u8>),
    /// JSON, but no request.
    Invalid,
    /// No JSON. Whether it began as a request or a batch.
    Malformed(bool),
}

/// The members that identify a request; a duplicate member is an error.
#[derive(Deserialize)]
struct Shape<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    jsonrpc: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    method: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(rename = "params", default)]
    _params: Option<IgnoredAny>,
}

/// `null` is there, too.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// An `id` that the library knows: a text, a whole number from 0, or `null`.
fn is_id(id: &RawValue) -> bool {
    let text = id.get();
    text == "null" || is_text(id) || serde_json::from_str::<u64>(text).is_ok()
}

/// A string of Unicode text. JSON can hold halves of surrogate pairs, and the library cannot.
fn is_text(value: &RawValue) -> bool {
    value.get().starts_with('"') && serde_json::from_str::<String>(value.get()).is_ok()
}

fn is_request(text: &str) -> bool {
    serde_json::from_str::<Shape<'_>>(text).is_ok_and(|shape| {
        shape
            .jsonrpc
            .is_some_and(|version| version.get() == "\"2.0\"")
            && shape.method.is_some_and(is_text)
            && shape.id.is_none_or(is_id)
    })
}

/// Checks a request or a batch.
pub(crate) fn check(body: Vec<u8>) -> Checked {
    // All of it is checked: the library skips bytes that are not UTF-8 where it needs no text.
    let Ok(message) = serde_json::from_slice::<&RawValue>(&body) else {
        let first = body.iter().find(|byte| !b" \t\n\r".contains(byte));
        return Checked::Malformed(matches!(first, Some(b'{' | b'[')));
    };
    // Without the space around it: the library looks for the first byte at the beginning.
    let text = message.get();
    if text.starts_with('[') {
        return match serde_json::from_str::<Vec<&RawValue>>(text) {
            Ok(entries) if entries.iter().all(|entry| is_request(entry.get())) => {
                Checked::Pass(text.as_bytes().to_vec())
            }
            Ok(entries) => Checked::Pass(without_others(&entries)),
            Err(_) => Checked::Malformed(true),
        };
    }
    if !is_request(text) {
        return Checked::Invalid;
    }
    if text.len() == body.len() {
        return Checked::Pass(body);
    }
    Checked::Pass(text.as_bytes().to_vec())
}

/// The batch with a number in place of each entry that is not a request.
fn without_others(entries: &[&RawValue]) -> Vec<u8> {
    let texts: Vec<&str> = entries
        .iter()
        .map(|entry| {
            Some(entry.get())
                .filter(|text| is_request(text))
                .unwrap_or("0")
        })
        .collect();
    format!("[{}]", texts.join(",")).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn single(text: &str) -> bool {
        check(text.as_bytes().to_vec()) == Checked::Invalid
    }

    #[test]
    fn check_request_with_an_id_of_another_kind_is_invalid() {
        for id in [
            "-1",
            "1.5",
            "1e3",
            "true",
            "[]",
            "{}",
            "18446744073709551616",
            r#""\ud800""#,
            r#""a\udc00b""#,
        ] {
            let request = format!(r#"{{"jsonrpc":"2.0","method":"f","id":{id}}}"#);
            assert!(single(&request), "{id}");
        }
        for id in [
            "0",
            "18446744073709551615",
            r#""a""#,
            r#""""#,
            r#""\ud83d\ude00""#,
            "null",
        ] {
            let request = format!(r#"{{"jsonrpc":"2.0","method":"f","id":{id}}}"#);
            assert!(!single(&request), "{id}");
        }
    }

    #[test]
    fn check_what_is_no_request_is_invalid() {
        assert!(single("{}"));
        assert!(single(r#"{"method":"f","id":1}"#));
        assert!(single(r#"{"jsonrpc":"1.0","method":"f","id":1}"#));
        assert!(single(r#"{"jsonrpc":"2.0","method":1,"id":1}"#));
        assert!(single(r#"{"jsonrpc":"2.0","method":"f","id":1,"id":2}"#));
        assert!(single(r#"{"jsonrpc":"2.0","method":"\ud800","id":1}"#));
        assert!(!single(r#"{"jsonrpc":"2.0","method":"f"}"#));
        for text in ["null", "5", " -1.5 ", "\"x\"", "\"\\ud800\"", "true"] {
            assert!(single(text), "{text}");
        }
    }

    #[test]
    fn check_what_is_no_json_is_malformed() {
        let unread = br#"{"jsonrpc":"2.0","method":"f","id":-1,"x":"\xff"}"#;
        for (text, begun) in [
            (&b""[..], false),
            (b" ", false),
            (b"nul", false),
            (b"\"x", false),
            (b"5 5", false),
            (b"\"\xff\"", false),
            ("\u{feff}{}".as_bytes(), false),
            (b"\x0c{}", false),
            (br#" {"jsonrpc":"2.0","#, true),
            (b"[1,", true),
            (unread, true),
        ] {
            let expected = Checked::Malformed(begun);
            assert_eq!(check(text.to_vec()), expected, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn check_passes_a_request_without_the_space_around_it() {
        let good = r#"{"jsonrpc":"2.0","method":"f","id":1}"#;
        let spaced = format!("{}{good}\n", " ".repeat(300));
        assert_eq!(
            check(spaced.into_bytes()),
            Checked::Pass(good.as_bytes().to_vec())
        );
    }

    #[test]
    fn check_batch_keeps_requests_and_rejects_the_rest() {
        let good = r#"{"jsonrpc":"2.0","method":"f","id":1}"#;
        let batch = format!(r#"[{good}, {{"jsonrpc":"2.0","method":"f","id":-1}},7]"#);
        assert_eq!(
            check(batch.into_bytes()),
            Checked::Pass(format!("[{good},0,0]").into_bytes())
        );
    }
}
