//! Strings of JSON, written into a message that is put together as text.

/// Appends a JSON string. It is for payloads without marks; [`push_text`] is for those that may have some.
pub fn push_string(out: &mut String, text: &str) {
    out.push('"');
    push_escaped(out, text);
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

fn push_escaped(out: &mut String, text: &str) {
    let mut from = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
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
            let escaped: String = serde_json::from_str(&marked).unwrap();
            assert_eq!(MarkedString::read(&escaped), MarkedString::Text(text));
        }
    }
}
