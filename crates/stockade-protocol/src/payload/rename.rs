//! All marks of a marked [`Payload`], checked and its streams and targets renamed, in the text as it stands.
//!
//! Invariant: nothing but what is renamed is changed, to the byte. Numbers that no Rust type holds, the order of
//! keys and halves of surrogate pairs pass as they came.
//!
//! The text is hostile. A parser checks it first, so that what is found here is what the next reader sees: in a
//! text that is JSON a quote begins or ends a string, and U+0000 is written as `\u0000` only.

use serde::de::IgnoredAny;

use super::Payload;
use super::mark::{Attachment, MarkedString};

/// Nested values deeper than this are refused.
const MAX_MARKED_DEPTH: usize = 1024;

/// What begins a string that is a mark, or an escaped text.
const NUL: &str = "\\u0000";

/// Marked data that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum MarksError {
    /// It is not JSON.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// It is nested too deeply.
    #[error("data is nested more than {MAX_MARKED_DEPTH} values deep: make it flatter")]
    TooDeep,
    /// A mark refers to a binary part that there is not, or is none that the format has here.
    #[error("a mark names nothing")]
    NamesNothing,
}

impl Payload {
    /// Checks every mark of the data and names each stream and target as `rename` does, which gives another one of the
    /// same kind, in the order of the marks. Names of members are no marks. Without marks the data passes as it is, and
    /// binary parts that nothing refers to are dropped.
    ///
    /// # Errors
    /// As [`MarksError`], and what `rename` gives.
    pub fn rename_attachments<E: From<MarksError>>(
        mut self,
        mut rename: impl FnMut(Attachment) -> Result<Attachment, E>,
    ) -> Result<Self, E> {
        if !self.marked {
            self.bytes = Vec::new();
            return Ok(self);
        }
        let parts = self.bytes.len() as u64;
        self.json = edit_marks(&self.json, |mark| match mark {
            MarkedString::Text(_) | MarkedString::Value => Ok(Edit::Keep),
            MarkedString::Attachment(Attachment::Bytes(index)) if index < parts => Ok(Edit::Keep),
            MarkedString::Attachment(
                attachment @ (Attachment::Stream(_) | Attachment::Target(_)),
            ) => rename(attachment).map(Edit::Name),
            MarkedString::Attachment(_) | MarkedString::Unknown => {
                Err(MarksError::NamesNothing.into())
            }
        })?;
        Ok(self)
    }

    /// The JSON text of the data, `null` for `undefined`; `None` where it holds what JSON cannot hold, or is no
    /// JSON.
    #[must_use]
    pub fn into_plain_json(self) -> Option<String> {
        if self.json.is_empty() {
            return Some("null".to_owned());
        }
        if !self.marked {
            return Some(self.json);
        }
        edit_marks(&self.json, |mark| match mark {
            MarkedString::Text(_) => Ok(Edit::Unescape),
            _ => Err(MarksError::NamesNothing),
        })
        .ok()
    }
}

/// What becomes of a mark or an escaped text.
enum Edit {
    /// It stays.
    Keep,
    /// It names this from now on.
    Name(Attachment),
    /// It loses its first U+0000.
    Unescape,
}

/// Goes over all marks and escaped texts of a marked text, in their order, and gives the text as `edit` wants it.
/// An escaped text is passed as it stands in the JSON.
fn edit_marks<E: From<MarksError>>(
    json: &str,
    mut edit: impl FnMut(MarkedString<'_>) -> Result<Edit, E>,
) -> Result<String, E> {
    serde_json::from_str::<IgnoredAny>(json).map_err(MarksError::Json)?;
    let bytes = json.as_bytes();
    let mut out = String::with_capacity(json.len());
    let (mut copied, mut at, mut depth) = (0, 0, 0_usize);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                if depth > MAX_MARKED_DEPTH {
                    return Err(MarksError::TooDeep.into());
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => {
                let start = at + 1;
                let end = end_of_string(bytes, start);
                at = end;
                let text = json.get(start..end).unwrap_or_default();
                if let Some(rest) = text.strip_prefix(NUL)
                    && !is_name(bytes, end + 1)
                {
                    // What was not copied yet goes out before the place that changes.
                    match edit(read(rest))? {
                        Edit::Keep => {}
                        Edit::Unescape => {
                            out.push_str(&json[copied..start]);
                            copied = start + NUL.len();
                        }
                        Edit::Name(attachment) => {
                            out.push_str(&json[copied..start]);
                            out.push_str(&format!("{NUL}{}", attachment.letters()));
                            copied = end;
                        }
                    }
                }
            }
            _ => {}
        }
        at += 1;
    }
    out.push_str(&json[copied..]);
    Ok(out)
}

/// Where the string that begins at `at` ends: the place of its second quote.
fn end_of_string(bytes: &[u8], mut at: usize) -> usize {
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => return at,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Whether the string that ended before `at` is the name of a member.
fn is_name(bytes: &[u8], at: usize) -> bool {
    let rest = bytes.get(at..).unwrap_or_default();
    rest.iter()
        .find(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r'))
        == Some(&b':')
}

/// Reads what stands behind the U+0000 of a string, as it is written.
fn read(rest: &str) -> MarkedString<'_> {
    if rest.starts_with(NUL) {
        return MarkedString::Text(rest);
    }
    if !rest.contains('\\') {
        return MarkedString::read_letters(rest);
    }
    // Written with escapes, a mark is a mark all the same.
    match serde_json::from_str::<String>(&format!("\"{rest}\"")) {
        Ok(letters) => MarkedString::read_letters(&letters),
        Err(_) => MarkedString::Unknown,
    }
}

/// Whether these invariants hold for a text as marked data, for the fuzzer: every stream and target that a parser finds
/// in the JSON was renamed, and renaming them back gives the text that there was.
#[doc(hidden)]
#[must_use]
pub fn marks_hold(json: &str) -> bool {
    let data = Payload {
        json: json.to_owned(),
        bytes: vec![Vec::new(); 3],
        marked: true,
    };
    let mut seen = Vec::new();
    let Ok(same) = data.clone().rename_attachments::<MarksError>(|attachment| {
        seen.push(attachment);
        Ok(attachment)
    }) else {
        return true;
    };
    let switch = |data: Payload| {
        data.rename_attachments::<MarksError>(|attachment| {
            Ok(match attachment {
                Attachment::Stream(id) => Attachment::Stream(id ^ 1),
                Attachment::Target(id) => Attachment::Target(id ^ 1),
                other => other,
            })
        })
    };
    let all_seen = serde_json::from_str(json).map_or(true, |value| named_within(&value, &seen));
    all_seen && switch(data).and_then(switch).is_ok_and(|back| back == same)
}

/// Whether each stream and target that a value names is one of `seen`.
fn named_within(value: &serde_json::Value, seen: &[Attachment]) -> bool {
    use serde_json::Value;
    match value {
        Value::String(text) => match MarkedString::read(text) {
            MarkedString::Attachment(
                attachment @ (Attachment::Stream(_) | Attachment::Target(_)),
            ) => seen.contains(&attachment),
            _ => true,
        },
        Value::Array(list) => list.iter().all(|item| named_within(item, seen)),
        Value::Object(map) => map.values().all(|item| named_within(item, seen)),
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(json: &str, parts: usize) -> Payload {
        Payload {
            json: json.to_owned(),
            bytes: vec![Vec::new(); parts],
            marked: true,
        }
    }

    /// The ids of the streams, in their order.
    fn streams(json: &str) -> Result<Vec<u64>, MarksError> {
        let mut found = Vec::new();
        let same = marked(json, 2).rename_attachments::<MarksError>(|attachment| {
            if let Attachment::Stream(id) = attachment {
                found.push(id);
            }
            Ok(attachment)
        })?;
        assert_eq!(same.json, json);
        Ok(found)
    }

    #[test]
    fn marks_of_every_kind_pass_and_streams_come_in_their_order() {
        let json = r#"[{"a":"\u0000s40","b" : ["\u0000b0","\u0000a1"]}, "\u0000\u0000s1", "plain",
            "\u0000u","\u0000fNaN","\u0000d-12","\u0000i-ff",["\u0000M"],"\u0000s7"]"#;
        assert_eq!(streams(json).unwrap(), [40, 7]);
    }

    #[test]
    fn marks_written_another_way_are_found() {
        let written = marked(r#"["\u0000\u0073\u0039","\u0000\u0000\u0073"]"#, 0);
        let renamed = written
            .rename_attachments::<MarksError>(|_| Ok(Attachment::Stream(10)))
            .unwrap();
        assert_eq!(renamed.json, r#"["\u0000s10","\u0000\u0000\u0073"]"#);
    }

    #[test]
    fn marks_that_name_nothing_are_refused() {
        for text in [
            "",
            "b",
            "b2",
            "a9",
            "s",
            "s-1",
            "s+1",
            "h0",
            "x",
            "n",
            "u1",
            "M0",
            "\\ud800",
            "s1\\ud800",
            "\\u0001s1",
        ] {
            let refused = streams(&format!(r#"["\u0000{text}"]"#));
            assert!(matches!(refused, Err(MarksError::NamesNothing)), "{text}");
        }
    }

    #[test]
    fn marks_are_no_names_of_members() {
        let json = "{\"\\u0000s1\" \n:1,\"a\":{\"\\u0000b9\":\"\\u0000s2\"}}";
        assert_eq!(streams(json).unwrap(), [2]);
    }

    #[test]
    fn marks_stand_only_where_a_string_begins() {
        let json = r#"["a\"\u0000s1","\\","\u0000s2","\\\"\u0000s3"]"#;
        assert_eq!(streams(json).unwrap(), [2]);
    }

    #[test]
    fn marks_are_renamed_and_all_else_stays_to_the_byte() {
        let json = r#" {"\ud800": "\udc00", "b":9007199254740993, "a":1e400, "s":"\u0000s7", "t":"\u0000\u0000\ud800", "r":"\u0000r8"} "#;
        let renamed = marked(json, 0).rename_attachments::<MarksError>(|attachment| {
            Ok(match attachment {
                Attachment::Target(8) => Attachment::Target(9),
                _ => Attachment::Stream(107),
            })
        });
        let expected = json.replace("\\u0000s7", "\\u0000s107");
        let expected = expected.replace("\\u0000r8", "\\u0000r9");
        assert_eq!(renamed.unwrap().json, expected);
    }

    #[test]
    fn marks_in_what_is_no_json_or_too_deep_are_refused() {
        for json in [
            "",
            "[",
            "[\"\\u0000s1\"",
            "\"a\" 1",
            "\"\0s1\"",
            "\"\\u00\"",
        ] {
            assert!(
                matches!(streams(json), Err(MarksError::Json(_))),
                "{json:?}"
            );
        }
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(streams(&nested(MAX_MARKED_DEPTH)).is_ok());
        let deep = nested(MAX_MARKED_DEPTH + 1);
        assert!(matches!(streams(&deep), Err(MarksError::TooDeep)));
        assert!(streams(&"[".repeat(1 << 20)).is_err());
    }

    #[test]
    fn marks_of_a_payload_without_any_are_texts() {
        let mut plain = Payload::from_json(r#"["\u0000s1"]"#.to_owned());
        plain.bytes = vec![vec![1]];
        let same = plain.rename_attachments::<MarksError>(|_| Err(MarksError::TooDeep));
        assert_eq!(
            same.unwrap(),
            Payload::from_json(r#"["\u0000s1"]"#.to_owned())
        );
    }

    /// The generator of <https://prng.di.unimi.it/splitmix64.c>, for the same run every time.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            ((z ^ (z >> 31)) % bound as u64) as usize
        }
    }

    #[test]
    fn marks_of_texts_put_together_at_random_are_what_a_parser_finds() {
        let pieces = [
            "\\u0000", "s1", "r1", "b0", "h2", "\\u0073", "\\ud800", "\\\\", "\\\"", "\"", "\"",
            ":", ",", "[", "]", "{", "}", " ", "u", "1",
        ];
        let mut random = Random(7);
        let mut read = 0;
        for _ in 0..60_000 {
            let count = random.below(9);
            let inner: String = (0..count)
                .map(|_| pieces[random.below(pieces.len())])
                .collect();
            let json = format!("[\"\\u0000{inner}\"]");
            assert!(marks_hold(&json), "{json}");
            let renamed = marked(&json, 3).rename_attachments::<MarksError>(|attachment| {
                read += 1;
                Ok(attachment)
            });
            drop(renamed);
        }
        assert!(read > 100, "only {read} streams");
    }

    #[test]
    fn plain_json_of_undefined_is_null() {
        assert_eq!(Payload::default().into_plain_json().unwrap(), "null");
    }

    #[test]
    fn plain_json_takes_escapes_away_and_refuses_marks() {
        let plain = |json: &str| marked(json, 1).into_plain_json();
        let escaped = plain(r#"[{"a":"\u0000\u0000b0"},1]"#);
        assert_eq!(escaped.unwrap(), r#"[{"a":"\u0000b0"},1]"#);
        let lone = plain(r#"["\u0000\u0000\ud800",{"\udc00":1}]"#);
        assert_eq!(lone.unwrap(), r#"["\u0000\ud800",{"\udc00":1}]"#);
        for json in [
            r#"{"a":["\u0000b0"]}"#,
            r#"["\u0000u"]"#,
            r#"["\u0000x"]"#,
            "[",
        ] {
            assert_eq!(plain(json), None, "{json}");
        }
        assert_eq!(Payload::from_bytes(vec![1]).into_plain_json(), None);
    }
}
