//! JSON in one form, so that equal values have equal digests: keys sorted by their UTF-8 bytes, no white space, and
//! strings and numbers as serde_json writes them.

use std::fmt::Write as _;

use aws_lc_rs::digest;
use serde_json::Value;

/// The canonical form of a value.
#[must_use]
pub fn canonical(value: &Value) -> String {
    let mut text = String::new();
    write(value, &mut text);
    text
}

fn write(value: &Value, to: &mut String) {
    match value {
        Value::Array(items) => {
            to.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    to.push(',');
                }
                write(item, to);
            }
            to.push(']');
        }
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(name, _)| name.as_bytes());
            to.push('{');
            for (at, (name, item)) in entries.into_iter().enumerate() {
                if at > 0 {
                    to.push(',');
                }
                // Writing into memory does not fail.
                let _ = write!(to, "{}:", Value::from(name.as_str()));
                write(item, to);
            }
            to.push('}');
        }
        scalar => {
            let _ = write!(to, "{scalar}");
        }
    }
}

/// SHA-256, in pieces.
#[derive(Clone)]
pub struct Sha256(digest::Context);

impl Default for Sha256 {
    fn default() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }
}

impl Sha256 {
    /// The digest of bytes, in hexadecimal.
    #[must_use]
    pub fn of(bytes: &[u8]) -> String {
        let mut whole = Self::default();
        whole.add(bytes);
        whole.finish()
    }

    /// Adds bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest in hexadecimal.
    #[must_use]
    pub fn finish(self) -> String {
        let digest = self.0.finish();
        digest
            .as_ref()
            .iter()
            .fold(String::new(), |mut text, byte| {
                let _ = write!(text, "{byte:02x}");
                text
            })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn canonical_form_does_not_depend_on_order_and_white_space() {
        let one: Value =
            serde_json::from_str(r#"{"b": [1, {"z": null, "a": "\u00e9\n"}], "a": 1.5}"#).unwrap();
        let other: Value =
            serde_json::from_str(r#"{"a":1.5,"b":[1,{"a":"é\n","z":null}]}"#).unwrap();
        assert_eq!(canonical(&one), r#"{"a":1.5,"b":[1,{"a":"é\n","z":null}]}"#);
        assert_eq!(canonical(&one), canonical(&other));
        assert_ne!(canonical(&json!([1, 2])), canonical(&json!([2, 1])));
    }

    #[test]
    fn digest_is_sha_256() {
        // FIPS 180-4, "abc".
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Sha256::of(b"abc"), expected);
        let mut pieces = Sha256::default();
        pieces.add(b"a");
        pieces.add(b"bc");
        assert_eq!(pieces.finish(), expected);
    }
}
