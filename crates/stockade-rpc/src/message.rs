//! Looks at a message before the JSON-RPC library does.
//!
//! The library takes an object whose `id` it does not know (a negative number, a list) for a
//! notification: it would be carried out and never answered. Such messages are found here.

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
}

/// The members that tell a request; a member that is there twice is an error.
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
    text == "null" || text.starts_with('"') || serde_json::from_str::<u64>(text).is_ok()
}

fn is_request(text: &str) -> bool {
    serde_json::from_str::<Shape<'_>>(text).is_ok_and(|shape| {
        shape
            .jsonrpc
            .is_some_and(|version| version.get() == "\"2.0\"")
            && shape.method.is_some_and(|name| name.get().starts_with('"'))
            && shape.id.is_none_or(is_id)
    })
}

/// Checks a request or a batch.
pub(crate) fn check(body: Vec<u8>, is_single: bool) -> Checked {
    // What is no JSON the library refuses as it should.
    if is_single {
        match serde_json::from_slice::<&RawValue>(&body) {
            Ok(text) if !is_request(text.get()) => Checked::Invalid,
            _ => Checked::Pass(body),
        }
    } else {
        match serde_json::from_slice::<Vec<&RawValue>>(&body) {
            Ok(entries) if !entries.iter().all(|entry| is_request(entry.get())) => {
                Checked::Pass(without_others(&entries))
            }
            _ => Checked::Pass(body),
        }
    }
}

/// The batch with a number in place of each entry that is no request.
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
        check(text.as_bytes().to_vec(), true) == Checked::Invalid
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
        ] {
            let request = format!(r#"{{"jsonrpc":"2.0","method":"f","id":{id}}}"#);
            assert!(single(&request), "{id}");
        }
        for id in ["0", "18446744073709551615", "\"a\"", "\"\"", "null"] {
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
        assert!(!single(r#"{"jsonrpc":"2.0","method":"f"}"#));
        // Refused by the library as what it is, no JSON.
        assert!(!single(r#"{"jsonrpc":"2.0","#));
    }

    #[test]
    fn check_batch_keeps_requests_and_spoils_the_rest() {
        let good = r#"{"jsonrpc":"2.0","method":"f","id":1}"#;
        let batch = format!(r#"[{good}, {{"jsonrpc":"2.0","method":"f","id":-1}},7]"#);
        assert_eq!(
            check(batch.into_bytes(), false),
            Checked::Pass(format!("[{good},0,0]").into_bytes())
        );
    }
}
