//! What data costs in the heap of the V8 that parses it.
//!
//! `{}` is 2 bytes of text and 56 of heap: a bound on text alone bounds nothing there. The numbers are
//! those of V8 without pointer compression, with the shapes that JSON usually has. Shapes chosen to be
//! dear, such as an object for each of many keys, cost up to four times as much.

use crate::payload::Payload;

/// An object or array, without what is in it.
const CONTAINER: usize = 64;

/// A place in an array or object, and a number in it.
const PLACE: usize = 24;

/// A property.
const KEY: usize = 40;

/// A string, without its text.
const STRING: usize = 32;

/// A typed array and its buffer, without the bytes.
const PART: usize = 256;

/// The most that one byte of text can cost by its values.
const MOST_BY_BYTE: usize = CONTAINER;

/// A text of at most this many bytes is weighed by its length alone.
const SHORT: usize = 64;

/// The most that a byte of JSON text costs on the average: `[[[[]]]]` is containers alone.
const MOST_OF_SHORT: usize = CONTAINER / 2;

/// What a message costs in the heap that holds it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Weight {
    /// Bytes for objects, arrays, properties, numbers and the heads of strings and byte arrays.
    pub values: usize,
    /// Bytes of texts and byte arrays.
    pub content: usize,
}

impl Weight {
    /// Everything together.
    #[must_use]
    pub fn total(self) -> usize {
        self.values.saturating_add(self.content)
    }
}

impl Payload {
    /// Weighs the data, without parsing it. Text that is not JSON has some weight.
    #[must_use]
    pub fn weigh(&self) -> Weight {
        let mut weight = weigh_text(self.json.as_bytes());
        for part in &self.bytes {
            weight.values = weight.values.saturating_add(PART);
            weight.content = weight.content.saturating_add(part.len());
        }
        weight
    }

    /// As [`Payload::weigh`], but of a short text the most that any so long can weigh.
    #[must_use]
    pub fn weigh_at_most(&self) -> Weight {
        let length = self.json.len();
        if length > SHORT || !self.bytes.is_empty() {
            return self.weigh();
        }
        Weight {
            values: length * MOST_OF_SHORT,
            content: 2 * length,
        }
    }

    /// What the data costs by its values, computed only where it could be above `limit`.
    ///
    /// # Errors
    /// What it costs, where that is above `limit`.
    pub fn check_values(&self, limit: usize) -> Result<(), usize> {
        let most = (self.json.len().saturating_mul(MOST_BY_BYTE))
            .saturating_add(self.bytes.len().saturating_mul(PART));
        if most <= limit {
            return Ok(());
        }
        match self.weigh().values {
            values if values > limit => Err(values),
            _ => Ok(()),
        }
    }
}

fn weigh_text(text: &[u8]) -> Weight {
    let mut weight = Weight::default();
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        at += 1;
        weight.values += match byte {
            b'{' | b'[' => CONTAINER,
            b',' => PLACE,
            b':' => KEY,
            b'"' => {
                let (length, wide) = string(text.get(at..).unwrap_or_default());
                weight.content += if wide { 2 * length } else { length };
                at += length + 1;
                STRING
            }
            _ => 0,
        };
    }
    weight
}

/// The bytes of a string up to its closing quote, and whether its characters may take two bytes each.
fn string(text: &[u8]) -> (usize, bool) {
    let mut at = 0;
    let mut escaped = false;
    while let Some(found) = memchr::memchr2(b'"', b'\\', text.get(at..).unwrap_or_default()) {
        at += found;
        if text.get(at) == Some(&b'"') {
            let wide = escaped || !text.get(..at).unwrap_or_default().is_ascii();
            return (at, wide);
        }
        escaped = true;
        at += 2;
    }
    (text.len(), true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weigh(json: &str) -> Weight {
        Payload::from_json(json.to_owned()).weigh()
    }

    #[test]
    fn weight_counts_values_and_not_what_stands_in_strings() {
        assert_eq!(weigh("").total(), 0);
        assert_eq!(weigh("5").total(), 0);
        assert_eq!(weigh("[{},{}]").values, 3 * CONTAINER + PLACE);
        assert_eq!(
            weigh(r#"{"a":"x,{[:"}"#),
            Weight {
                values: CONTAINER + KEY + 2 * STRING,
                content: 1 + 5
            }
        );
    }

    #[test]
    fn weight_ends_a_string_at_its_quote_only() {
        assert_eq!(weigh(r#""a\"[{,""#).values, STRING);
        assert_eq!(weigh(r#"["\\",{}]"#).values, 2 * CONTAINER + STRING + PLACE);
        assert_eq!(weigh(r#""a\"#).values, STRING);
        assert_eq!(weigh("\"").values, STRING);
    }

    #[test]
    fn weight_of_text_beyond_ascii_is_twice_its_bytes() {
        assert_eq!(weigh("\"\u{e9}\"").content, 4);
        assert_eq!(weigh(r#""\u00e9""#).content, 12);
        assert_eq!(weigh("\"ab\"").content, 2);
    }

    #[test]
    fn weight_of_empty_byte_arrays_is_not_nothing() {
        let payload = Payload {
            json: "[]".to_owned(),
            bytes: vec![Vec::new(); 10],
            marked: true,
        };
        assert_eq!(payload.weigh().values, CONTAINER + 10 * PART);
    }

    #[test]
    fn weigh_at_most_is_not_below_what_short_data_weighs() {
        let texts = [
            "[[[[]]]]",
            "[[],[],[],[]]",
            r#"{"":{"":{"":{}}}}"#,
            r#"["","","",""]"#,
            "[1,2,3,4,5]",
            "\"\u{e9}\u{e9}\u{e9}\u{e9}\"",
            "5",
        ];
        for json in texts {
            let payload = Payload::from_json(json.to_owned());
            let (exact, most) = (payload.weigh(), payload.weigh_at_most());
            assert!(exact.total() <= most.total(), "{json}: {exact:?}, {most:?}");
            assert!(exact.values <= most.values.max(STRING), "{json}");
        }
        let long = Payload::from_json(format!("[{}0]", "0,".repeat(SHORT)));
        assert_eq!(long.weigh_at_most(), long.weigh());
        let bytes = Payload::from_bytes(vec![0; 1000]);
        assert_eq!(bytes.weigh_at_most(), bytes.weigh());
    }

    #[test]
    fn check_values_refuses_many_values_and_takes_long_text() {
        let limit = 1 << 20;
        let objects = format!("[{}0]", "{},".repeat(limit / CONTAINER));
        assert!(Payload::from_json(objects).check_values(limit).is_err());
        let text = format!("\"{}\"", ",".repeat(4 * limit));
        assert_eq!(Payload::from_json(text).check_values(limit), Ok(()));
    }

    #[test]
    fn weight_of_a_byte_of_text_is_at_most_what_check_values_assumes() {
        for byte in 0..=127_u8 {
            let text = [byte];
            assert!(weigh_text(&text).values <= MOST_BY_BYTE);
        }
    }
}
