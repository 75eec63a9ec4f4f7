//! One event on its way into the log.

use std::fmt::Write as _;

/// Bytes of one text. The rest is cut.
const MAX_TEXT: usize = 2048;

/// Bytes of one record. Further fields are left out, and the record says so.
const MAX_RECORD: usize = 16 << 10;

/// An event and its fields. Names are the program's own; texts may be anybody's.
#[derive(Debug, Clone)]
pub struct Record {
    /// `"event":"…","name":value`, the inside of a JSON object.
    fields: String,
    cut: bool,
}

impl Record {
    /// An event of this name.
    #[must_use]
    pub fn new(event: &str) -> Self {
        let mut record = Self {
            fields: String::with_capacity(256),
            cut: false,
        };
        record.fields.push_str("\"event\":");
        quote(&mut record.fields, event);
        record
    }

    /// A text, of which at most 2,048 bytes are kept.
    #[must_use]
    pub fn text(self, name: &str, value: &str) -> Self {
        self.field(name, |fields| quote(fields, shortened(value)))
    }

    /// A number.
    #[must_use]
    pub fn number(self, name: &str, value: u64) -> Self {
        self.field(name, |fields| {
            let _ = write!(fields, "{value}");
        })
    }

    /// Yes or no.
    #[must_use]
    pub fn flag(self, name: &str, value: bool) -> Self {
        self.field(name, |fields| {
            fields.push_str(if value { "true" } else { "false" });
        })
    }

    fn field(mut self, name: &str, value: impl FnOnce(&mut String)) -> Self {
        if self.cut {
            return self;
        }
        if self.fields.len() > MAX_RECORD {
            self.cut = true;
            self.fields.push_str(",\"cut\":true");
            return self;
        }
        self.fields.push(',');
        quote(&mut self.fields, name);
        self.fields.push(':');
        value(&mut self.fields);
        self
    }

    /// The inside of the JSON object.
    pub(crate) fn fields(&self) -> &str {
        &self.fields
    }
}

fn shortened(text: &str) -> &str {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// Appends a text as JSON.
fn quote(into: &mut String, text: &str) {
    into.push('"');
    for letter in text.chars() {
        match letter {
            '"' => into.push_str("\\\""),
            '\\' => into.push_str("\\\\"),
            letter if letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}') => {
                let mut units = [0; 2];
                for unit in letter.encode_utf16(&mut units) {
                    let _ = write!(into, "\\u{unit:04x}");
                }
            }
            letter => into.push(letter),
        }
    }
    into.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_end_the_line_or_pass_for_a_field() {
        let record = Record::new("x").text("t", "a\n\",\"event\":\"y\u{85}\u{2028}");
        assert!(!record.fields().contains('\n'));
        let json: serde_json::Value =
            serde_json::from_str(&format!("{{{}}}", record.fields())).unwrap();
        assert_eq!(json["event"], "x");
        assert_eq!(json["t"], "a\n\",\"event\":\"y\u{85}\u{2028}");
    }

    #[test]
    fn long_record_is_cut_and_says_so() {
        let mut record = Record::new("x");
        for _ in 0..100 {
            record = record.text("long", &"\u{e9}".repeat(5000));
        }
        assert!(record.fields().len() < MAX_RECORD + 3 * MAX_TEXT);
        assert!(record.fields().ends_with(",\"cut\":true"));
    }
}
