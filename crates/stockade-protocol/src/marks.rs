//! Marks in the text of a marked [`Payload`](crate::Payload), found and exchanged.
//!
//! Invariant: nothing but what the caller exchanges is changed, to the byte. Numbers that no Rust type holds,
//! the order of keys and halves of surrogate pairs pass as they came.
//!
//! The text is hostile. It is checked by a parser first, so that what is found here is what the next reader
//! sees: in a text that is JSON a quote begins or ends a string, and U+0000 is written as `\u0000` only.

use serde::de::IgnoredAny;

/// Nested values deeper than this are refused.
pub const MAX_MARKED_DEPTH: usize = 1024;

/// Hexadecimal digits of a `BigInt` that crosses.
pub(crate) const MAX_BIG_INT_DIGITS: usize = 1024;

/// What begins a string that is a mark, or an escaped text.
const NUL: &str = "\\u0000";

/// What a string that begins with U+0000 stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// The binary part of this index.
    Bytes(u64),
    /// The stream of this id.
    Stream(u64),
    /// A value that JSON has no word for.
    Value,
    /// A text that begins with U+0000, escaped.
    Text,
    /// Nothing that the format knows.
    Unknown,
}

/// What becomes of a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edit {
    /// It stays.
    Keep,
    /// It names this stream from now on.
    Stream(u64),
    /// It loses its first U+0000.
    Unescape,
}

/// Marked data that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum MarksError {
    /// It is no JSON.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// It is nested deeper than [`MAX_MARKED_DEPTH`].
    #[error("data is nested more than {MAX_MARKED_DEPTH} values deep: make it flatter")]
    TooDeep,
}

/// Goes over all marks of a marked text, in their order, and gives the text as `edit` wants it. Names of
/// members are no marks.
///
/// # Errors
/// As [`MarksError`], and what `edit` gives.
pub fn rewrite_marks<E: From<MarksError>>(
    json: &str,
    mut edit: impl FnMut(Mark) -> Result<Edit, E>,
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
                    match edit(read(rest))? {
                        Edit::Keep => {}
                        Edit::Unescape => {
                            out.push_str(&json[copied..start]);
                            copied = start + NUL.len();
                        }
                        Edit::Stream(id) => {
                            out.push_str(&json[copied..start]);
                            out.push_str(&format!("{NUL}s{id}"));
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
fn read(rest: &str) -> Mark {
    if rest.starts_with(NUL) {
        return Mark::Text;
    }
    if rest.contains('\\') {
        // Written with escapes, a mark is a mark all the same.
        return match serde_json::from_str::<String>(&format!("\"{rest}\"")) {
            Ok(plain) => read_plain(&plain),
            Err(_) => Mark::Unknown,
        };
    }
    read_plain(rest)
}

fn read_plain(text: &str) -> Mark {
    let mut chars = text.chars();
    let kind = chars.next();
    let rest = chars.as_str();
    // The parser of Rust takes a sign, too.
    let number = || rest.parse::<u64>().ok().filter(|_| !rest.starts_with('+'));
    let mark = match kind {
        Some('\0') => Some(Mark::Text),
        Some('b' | 'a') => number().map(Mark::Bytes),
        Some('s') => number().map(Mark::Stream),
        Some('u' | 'M' | 'S' | 'E') => rest.is_empty().then_some(Mark::Value),
        Some('f') => matches!(rest, "NaN" | "Infinity" | "-Infinity" | "-0").then_some(Mark::Value),
        Some('d') => is_time(rest).then_some(Mark::Value),
        Some('i') => is_big_int(rest).then_some(Mark::Value),
        _ => None,
    };
    mark.unwrap_or(Mark::Unknown)
}

/// Milliseconds since 1970, of a `Date`.
fn is_time(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    text == "NaN" || matches!(digits.len(), 1..=16) && digits.bytes().all(|b| b.is_ascii_digit())
}

/// Hexadecimal digits, of a `BigInt`.
fn is_big_int(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    matches!(digits.len(), 1..=MAX_BIG_INT_DIGITS) && digits.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(json: &str) -> Result<Vec<Mark>, MarksError> {
        let mut found = Vec::new();
        let same = rewrite_marks::<MarksError>(json, |mark| {
            found.push(mark);
            Ok(Edit::Keep)
        })?;
        assert_eq!(same, json);
        Ok(found)
    }

    #[test]
    fn marks_of_every_kind_are_found_in_their_order() {
        let json = r#"[{"a":"\u0000s40","b" : ["\u0000b0","\u0000a1"]}, "\u0000\u0000s1", "plain",
            "\u0000u","\u0000fNaN","\u0000f-0","\u0000d-12","\u0000dNaN","\u0000i-ff",["\u0000M"]]"#;
        let value = Mark::Value;
        let all = [Mark::Stream(40), Mark::Bytes(0), Mark::Bytes(1), Mark::Text];
        let expected: Vec<Mark> = all.into_iter().chain([value; 7]).collect();
        assert_eq!(marks(json).unwrap(), expected);
    }

    #[test]
    fn marks_written_another_way_are_found() {
        assert_eq!(marks(r#""\u0000\u0073\u0039""#).unwrap(), [Mark::Stream(9)]);
        assert_eq!(marks(r#""\u0000\u0000\u0073""#).unwrap(), [Mark::Text]);
    }

    #[test]
    fn marks_that_name_nothing_are_unknown() {
        for text in [
            "",
            "b",
            "s-1",
            "x",
            "s1 ",
            "bé",
            "n",
            "u1",
            "f1",
            "d",
            "d1.5",
            "i",
            "ig",
            "M0",
            "\\ud800",
            "s1\\ud800",
        ] {
            let json = format!(r#""\u0000{text}""#);
            assert_eq!(marks(&json).unwrap(), [Mark::Unknown], "{text}");
        }
        let long = "f".repeat(MAX_BIG_INT_DIGITS + 1);
        let json = format!(r#""\u0000i{long}""#);
        assert_eq!(marks(&json).unwrap(), [Mark::Unknown]);
    }

    #[test]
    fn marks_are_no_names_of_members() {
        let json = "{\"\\u0000s1\" \n:1,\"a\":{\"\\u0000b0\":\"\\u0000s2\"}}";
        assert_eq!(marks(json).unwrap(), [Mark::Stream(2)]);
    }

    #[test]
    fn marks_stand_only_where_a_string_begins() {
        let json = r#"["a\"\u0000s1","\\","\u0000s2","\\\"\u0000s3"]"#;
        assert_eq!(marks(json).unwrap(), [Mark::Stream(2)]);
    }

    #[test]
    fn marks_are_exchanged_and_all_else_stays_to_the_byte() {
        let json = r#" {"\ud800": "\udc00", "b":9007199254740993, "a":1e400, "s":"\u0000s7", "t":"\u0000\u0000\ud800"} "#;
        let exchanged = rewrite_marks::<MarksError>(json, |mark| {
            Ok(match mark {
                Mark::Stream(id) => Edit::Stream(id + 100),
                _ => Edit::Unescape,
            })
        });
        let expected = json
            .replace("\\u0000s7", "\\u0000s107")
            .replace("\\u0000\\u0000", "\\u0000");
        assert_eq!(exchanged.unwrap(), expected);
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
            assert!(matches!(marks(json), Err(MarksError::Json(_))), "{json:?}");
        }
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(marks(&nested(MAX_MARKED_DEPTH)).is_ok());
        let deep = nested(MAX_MARKED_DEPTH + 1);
        assert!(matches!(marks(&deep), Err(MarksError::TooDeep)));
        assert!(marks(&"[".repeat(1 << 20)).is_err());
    }
}
