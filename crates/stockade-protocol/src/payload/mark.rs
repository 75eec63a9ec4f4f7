//! Marks: the strings of a marked [`Payload`](super::Payload) that stand for something else. This is the only
//! reader and the only writer of them.
//!
//! Invariant: a string that is not a mark of the format is [`MarkedString::Unknown`], never a text.

use std::borrow::Cow;
use std::fmt;

use serde::{Serialize, Serializer};

/// Hexadecimal digits of a `BigInt` that crosses.
const MAX_BIG_INT_DIGITS: usize = 1024;

/// What a mark refers to outside the text. Its `Display` is the string that JavaScript sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attachment {
    /// The binary part of this index.
    Bytes(u64),
    /// The sender's stream of this id.
    Stream(u64),
    /// The receiver's stream of this id, which the sender gives back unread.
    Returned(u64),
    /// The sender's function or object of this id, which the receiver can call.
    Target(u64),
}

impl Attachment {
    /// The mark as a JSON string, with its quotes.
    #[must_use]
    pub fn json(self) -> impl fmt::Display {
        fmt::from_fn(move |f| write!(f, "\"\\u0000{}\"", self.letters()))
    }

    /// The mark without its U+0000.
    pub(super) fn letters(self) -> impl fmt::Display {
        let (letter, number) = match self {
            Self::Bytes(index) => ('b', index),
            Self::Stream(id) => ('s', id),
            Self::Returned(id) => ('h', id),
            Self::Target(id) => ('r', id),
        };
        fmt::from_fn(move |f| write!(f, "{letter}{number}"))
    }
}

impl fmt::Display for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\0{}", self.letters())
    }
}

impl Serialize for Attachment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What a string of a marked payload stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MarkedString<'a> {
    /// This text.
    Text(&'a str),
    /// A binary part or a stream.
    Attachment(Attachment),
    /// A value that JSON has no word for.
    Value,
    /// Nothing that the format knows.
    Unknown,
}

impl<'a> MarkedString<'a> {
    /// Reads a string, as it is after JSON's own escapes were taken away.
    #[must_use]
    pub fn read(text: &'a str) -> Self {
        match text.strip_prefix('\0') {
            None => Self::Text(text),
            Some(rest) if rest.starts_with('\0') => Self::Text(rest),
            Some(letters) => Self::read_letters(letters),
        }
    }

    /// Reads a mark without its U+0000.
    pub(super) fn read_letters(letters: &str) -> Self {
        let mut chars = letters.chars();
        let kind = chars.next();
        let rest = chars.as_str();
        // The parser of Rust takes a sign, too.
        let number = || rest.parse::<u64>().ok().filter(|_| !rest.starts_with('+'));
        let attachment = match kind {
            Some('b' | 'a') => number().map(Attachment::Bytes),
            Some('s') => number().map(Attachment::Stream),
            Some('h') => number().map(Attachment::Returned),
            Some('r') => number().map(Attachment::Target),
            kind => {
                return if is_value(kind, rest) {
                    Self::Value
                } else {
                    Self::Unknown
                };
            }
        };
        attachment.map_or(Self::Unknown, Self::Attachment)
    }
}

/// The string that stands for `text` in a marked payload: a text that begins with U+0000 has one more.
#[must_use]
pub fn escape_text(text: &str) -> Cow<'_, str> {
    if text.starts_with('\0') {
        Cow::Owned(format!("\0{text}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// Whether a mark of this letter with `rest` behind it is a value that JSON has no word for.
fn is_value(kind: Option<char>, rest: &str) -> bool {
    match kind {
        Some('u' | 'M' | 'S' | 'E') => rest.is_empty(),
        Some('f') => matches!(rest, "NaN" | "Infinity" | "-Infinity" | "-0"),
        Some('d') => is_time(rest),
        Some('i') => is_big_int(rest),
        _ => false,
    }
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

    #[test]
    fn mark_written_is_read_back_in_both_forms() {
        for attachment in [
            Attachment::Bytes(0),
            Attachment::Stream(40),
            Attachment::Returned(u64::MAX),
            Attachment::Target(7),
        ] {
            let expected = MarkedString::Attachment(attachment);
            assert_eq!(MarkedString::read(&attachment.to_string()), expected);
            for json in [
                attachment.json().to_string(),
                serde_json::to_string(&attachment).unwrap(),
            ] {
                let text: String = serde_json::from_str(&json).unwrap();
                assert_eq!(MarkedString::read(&text), expected, "{json}");
            }
        }
        let buffer = MarkedString::Attachment(Attachment::Bytes(3));
        assert_eq!(MarkedString::read("\0a3"), buffer);
    }

    #[test]
    fn mark_text_is_read_as_it_was_before_it_was_escaped() {
        for text in ["", "b0", "\0", "\0b0", "\0\0s1", "é"] {
            let escaped = escape_text(text);
            assert_eq!(MarkedString::read(&escaped), MarkedString::Text(text));
        }
    }

    #[test]
    fn mark_of_a_value_is_read() {
        let long = format!("i{}", "f".repeat(MAX_BIG_INT_DIGITS));
        for letters in [
            "u", "M", "S", "E", "fNaN", "f-0", "d0", "d-12", "dNaN", "i-ff", &long,
        ] {
            let mark = format!("\0{letters}");
            assert_eq!(MarkedString::read(&mark), MarkedString::Value, "{letters}");
        }
    }

    #[test]
    fn mark_that_names_nothing_is_unknown() {
        let long = format!("i{}", "f".repeat(MAX_BIG_INT_DIGITS + 1));
        let above = format!("b{}0", u64::MAX);
        for letters in [
            "",
            "b",
            "a",
            "s",
            "h",
            "s-1",
            "b+1",
            "s1 ",
            "x",
            "x0",
            "bé",
            "n",
            "u1",
            "f1",
            "d",
            "d1.5",
            "d12345678901234567",
            "i",
            "ig",
            "M0",
            "E[",
            "\u{1}b0",
            &long,
            &above,
        ] {
            let mark = format!("\0{letters}");
            let read = MarkedString::read(&mark);
            assert_eq!(read, MarkedString::Unknown, "{letters:?}");
        }
    }
}
