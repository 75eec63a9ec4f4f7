//! Strings of JSON, written into a message that is put together as text.

use std::fmt::{self, Write as _};

/// Appends a JSON string. It is for payloads without marks; [`push_text`] is for those that may have some.
pub fn push_string(out: &mut String, text: &str) {
    out.push('"');
    push_escaped(out, text);
    out.push('"');
}

/// As [`push_string`], of a text that is displayed.
pub fn push_displayed(out: &mut String, text: &impl fmt::Display) {
    struct Escaped<'a>(&'a mut String);
    impl fmt::Write for Escaped<'_> {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            push_escaped(self.0, text);
            Ok(())
        }
    }
    out.push('"');
    // Writing into memory does not fail.
    let _ = write!(Escaped(out), "{text}");
    out.push('"');
}

/// Appends a text of a marked payload as a JSON string: one that begins like a mark is escaped.
pub fn push_text(out: &mut String, text: &str) {
    out.push('"');
    if text.starts_with('\0') {
        out.push_str("\\u0000");
    }
    push_escaped(out, text);
    out.push('"');
}

/// Whether JSON has the byte only as an escape.
fn is_escaped(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

fn push_escaped(out: &mut String, text: &str) {
    // Without an early end, so that many bytes are checked in one step: most texts have no escapes.
    if !text.bytes().fold(false, |any, byte| any | is_escaped(byte)) {
        return out.push_str(text);
    }
    let mut from = 0;
    for (at, byte) in text.bytes().enumerate() {
        if !is_escaped(byte) {
            continue;
        }
        out.push_str(&text[from..at]);
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            control => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.push_str("\\u00");
                out.push(char::from(HEX[usize::from(control >> 4)]));
                out.push(char::from(HEX[usize::from(control & 15)]));
            }
        }
        from = at + 1;
    }
    out.push_str(&text[from..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MarkedString;

    #[test]
    fn string_written_is_read_back() {
        for text in ["", "a\"b\\c\n\u{1f}\u{7f}é😀", "\0b0", "\0\0", "plain"] {
            let (mut json, mut marked) = (String::new(), String::new());
            push_string(&mut json, text);
            assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
            push_text(&mut marked, text);
            let mut displayed = String::new();
            push_displayed(&mut displayed, &text);
            assert_eq!(displayed, json);
            let escaped: String = serde_json::from_str(&marked).unwrap();
            assert_eq!(MarkedString::read(&escaped), MarkedString::Text(text));
        }
    }
}
