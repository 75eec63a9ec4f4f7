//! Documents of BSON (bsonspec.org, version 1.1), walked through as what a guest or a server may have forged.
//!
//! Invariant: an [`Element`] lies within its document, and a document that [`check`] accepts is well-formed at every
//! depth.

/// Documents and arrays in each other: what servers accept.
const MAX_DOCUMENT_DEPTH: usize = 100;

/// Types of elements.
pub(crate) const DOUBLE: u8 = 0x01;
pub(crate) const STRING: u8 = 0x02;
pub(crate) const DOCUMENT: u8 = 0x03;
pub(crate) const ARRAY: u8 = 0x04;
pub(crate) const BOOLEAN: u8 = 0x08;
pub(crate) const CODE: u8 = 0x0d;
pub(crate) const CODE_WITH_SCOPE: u8 = 0x0f;
pub(crate) const INT32: u8 = 0x10;
pub(crate) const INT64: u8 = 0x12;

/// Bytes that are not a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// One element of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Element<'a> {
    pub(crate) kind: u8,
    pub(crate) name: &'a str,
    pub(crate) value: &'a [u8],
}

impl<'a> Element<'a> {
    /// The document or the elements of the array that the value is.
    pub(crate) fn document(&self) -> Option<Document<'a>> {
        matches!(self.kind, DOCUMENT | ARRAY).then_some(Document { bytes: self.value })
    }

    pub(crate) fn text(&self) -> Option<&'a str> {
        let text = self.value.get(4..)?.strip_suffix(&[0])?;
        (self.kind == STRING).then_some(std::str::from_utf8(text).ok()?)
    }

    /// A whole number, of any numeric type.
    pub(crate) fn integer(&self) -> Option<i64> {
        match self.kind {
            INT32 => Some(i32::from_le_bytes(self.value.try_into().ok()?).into()),
            INT64 => Some(i64::from_le_bytes(self.value.try_into().ok()?)),
            DOUBLE => {
                let number = f64::from_le_bytes(self.value.try_into().ok()?);
                (number.fract() == 0.0 && number.abs() < 9e15).then_some(number as i64)
            }
            _ => None,
        }
    }

    /// Whether the value counts as true, as commands take it.
    pub(crate) fn is_true(&self) -> bool {
        match self.kind {
            BOOLEAN => self.value == [1],
            _ => self.integer().is_some_and(|number| number != 0),
        }
    }
}

/// A document whose length is right; what is in it need not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Document<'a> {
    bytes: &'a [u8],
}

impl<'a> Document<'a> {
    /// The document at the beginning of `bytes`.
    pub(crate) fn at(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let length = length(bytes)?;
        let bytes = bytes.get(..length).ok_or(Malformed)?;
        if length < 5 || bytes.last() != Some(&0) {
            return Err(Malformed);
        }
        Ok(Self { bytes })
    }

    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The elements of the document, in their order. After an error there are none.
    pub(crate) fn elements(&self) -> Elements<'a> {
        Elements {
            rest: self.bytes.get(4..self.bytes.len() - 1).unwrap_or_default(),
        }
    }

    /// The first element of this name.
    pub(crate) fn get(&self, name: &str) -> Option<Element<'a>> {
        let mut elements = self.elements().map_while(Result::ok);
        elements.find(|element| element.name == name)
    }
}

/// The elements of a document.
pub(crate) struct Elements<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Elements<'a> {
    type Item = Result<Element<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let (&kind, rest) = self.rest.split_first()?;
        let element = element(kind, rest);
        self.rest = match &element {
            Ok((_, after)) => after,
            Err(Malformed) => &[],
        };
        Some(element.map(|(element, _)| element))
    }
}

fn element(kind: u8, rest: &[u8]) -> Result<(Element<'_>, &[u8]), Malformed> {
    let (name, rest) = c_string(rest)?;
    let length = match kind {
        // Undefined, null, the smallest and the largest key.
        0x06 | 0x0a | 0xff | 0x7f => 0,
        BOOLEAN => 1,
        INT32 => 4,
        // And a date, a timestamp.
        DOUBLE | 0x09 | 0x11 | INT64 => 8,
        // An object id.
        0x07 => 12,
        // A decimal number.
        0x13 => 16,
        // And a symbol.
        STRING | CODE | 0x0e => text(rest)?,
        DOCUMENT | ARRAY => Document::at(rest)?.bytes.len(),
        // Bytes: their length, a subtype.
        0x05 => length(rest)?.checked_add(5).ok_or(Malformed)?,
        // A regular expression: two strings.
        0x0b => {
            let (_, options) = c_string(rest)?;
            let (_, after) = c_string(options)?;
            rest.len() - after.len()
        }
        // A pointer of old: a string and an object id.
        0x0c => text(rest)?.checked_add(12).ok_or(Malformed)?,
        // The length of all, which the code and the document are in.
        CODE_WITH_SCOPE => length(rest)?,
        _ => return Err(Malformed),
    };
    let (value, rest) = rest.split_at_checked(length).ok_or(Malformed)?;
    Ok((Element { kind, name, value }, rest))
}

/// A length of four bytes, not negative.
fn length(bytes: &[u8]) -> Result<usize, Malformed> {
    let length = bytes.first_chunk::<4>().ok_or(Malformed)?;
    usize::try_from(i32::from_le_bytes(*length)).map_err(|_| Malformed)
}

/// The length of a string with the bytes that say it.
fn text(bytes: &[u8]) -> Result<usize, Malformed> {
    let length = length(bytes)?.checked_add(4).ok_or(Malformed)?;
    match bytes.get(4..length) {
        Some([.., 0]) => Ok(length),
        _ => Err(Malformed),
    }
}

fn c_string(bytes: &[u8]) -> Result<(&str, &[u8]), Malformed> {
    let end = bytes.iter().position(|byte| *byte == 0).ok_or(Malformed)?;
    let text = std::str::from_utf8(&bytes[..end]).map_err(|_| Malformed)?;
    Ok((text, &bytes[end + 1..]))
}

/// Visits every element at any depth. `visit` may refuse one.
pub(crate) fn walk<'a, E: From<Malformed>>(
    document: Document<'a>,
    visit: &mut impl FnMut(Element<'a>) -> Result<(), E>,
) -> Result<(), E> {
    // The documents that are not finished: no recursion, whatever a guest nests.
    let mut open = vec![document.elements()];
    while let Some(elements) = open.last_mut() {
        let Some(element) = elements.next() else {
            open.pop();
            continue;
        };
        let element = element?;
        visit(element)?;
        if matches!(element.kind, DOCUMENT | ARRAY) {
            if open.len() == MAX_DOCUMENT_DEPTH {
                return Err(Malformed.into());
            }
            open.push(Document::at(element.value)?.elements());
        }
    }
    Ok(())
}

/// Makes a document.
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; 4] }
    }

    pub(crate) fn raw(mut self, kind: u8, name: &str, value: &[u8]) -> Self {
        self.bytes.push(kind);
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.bytes.extend_from_slice(value);
        self
    }

    pub(crate) fn element(self, element: &Element<'_>) -> Self {
        self.raw(element.kind, element.name, element.value)
    }

    pub(crate) fn text(self, name: &str, text: &str) -> Self {
        let length = i32::try_from(text.len() + 1).unwrap_or(i32::MAX);
        let value = [&length.to_le_bytes()[..], text.as_bytes(), &[0]].concat();
        self.raw(STRING, name, &value)
    }

    pub(crate) fn int32(self, name: &str, number: i32) -> Self {
        self.raw(INT32, name, &number.to_le_bytes())
    }

    pub(crate) fn int64(self, name: &str, number: i64) -> Self {
        self.raw(INT64, name, &number.to_le_bytes())
    }

    pub(crate) fn double(self, name: &str, number: f64) -> Self {
        self.raw(DOUBLE, name, &number.to_le_bytes())
    }

    pub(crate) fn boolean(self, name: &str, value: bool) -> Self {
        self.raw(BOOLEAN, name, &[u8::from(value)])
    }

    pub(crate) fn date(self, name: &str, millis: i64) -> Self {
        self.raw(0x09, name, &millis.to_le_bytes())
    }

    /// Bytes of the generic subtype.
    pub(crate) fn binary(self, name: &str, bytes: &[u8]) -> Self {
        let length = i32::try_from(bytes.len()).unwrap_or(i32::MAX);
        let value = [&length.to_le_bytes()[..], &[0], bytes].concat();
        self.raw(0x05, name, &value)
    }

    pub(crate) fn document(self, name: &str, document: &[u8]) -> Self {
        self.raw(DOCUMENT, name, document)
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.bytes.push(0);
        let length = i32::try_from(self.bytes.len()).unwrap_or(i32::MAX);
        self.bytes[..4].copy_from_slice(&length.to_le_bytes());
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(depth: usize) -> Vec<u8> {
        let mut bytes = Writer::new().int32("n", 1).finish();
        for _ in 1..depth {
            bytes = Writer::new().document("d", &bytes).finish();
        }
        bytes
    }

    fn walked(bytes: &[u8]) -> Result<Vec<String>, Malformed> {
        let mut names = Vec::new();
        walk(Document::at(bytes)?, &mut |element| {
            names.push(element.name.to_owned());
            Ok::<_, Malformed>(())
        })?;
        Ok(names)
    }

    #[test]
    fn document_comes_back_as_it_was_written() {
        let inner = Writer::new().boolean("b", true).finish();
        let bytes = Writer::new()
            .text("t", "h\u{e9}")
            .int32("i", -1)
            .int64("l", 1 << 40)
            .double("f", 2.0)
            .date("d", 0)
            .binary("x", &[0, 255])
            .document("o", &inner)
            .raw(ARRAY, "a", &inner)
            .finish();
        let document = Document::at(&bytes).unwrap();
        assert_eq!(document.get("t").unwrap().text(), Some("h\u{e9}"));
        let numbers = ["i", "l", "f"].map(|name| document.get(name).unwrap().integer().unwrap());
        assert_eq!(numbers, [-1, 1 << 40, 2]);
        let inner = document.get("o").unwrap().document().unwrap();
        assert!(inner.get("b").unwrap().is_true());
        assert_eq!(walked(&bytes).unwrap().join(""), "tilfdxobab");
    }

    #[test]
    fn document_that_is_cut_or_changed_is_malformed_or_another_one() {
        let bytes = Writer::new()
            .text("t", "text")
            .document("d", &nested(3))
            .finish();
        for end in 0..bytes.len() {
            assert_eq!(walked(&bytes[..end]), Err(Malformed), "{end}");
        }
        for at in 0..bytes.len() {
            for change in [1, 0x7f, 0x80, 0xff] {
                let mut bytes = bytes.clone();
                bytes[at] ^= change;
                // No panic, and nothing beyond its bounds.
                let _ = walked(&bytes);
            }
        }
    }

    #[test]
    fn document_of_many_depths_is_refused() {
        assert!(walked(&nested(MAX_DOCUMENT_DEPTH)).is_ok());
        assert_eq!(walked(&nested(MAX_DOCUMENT_DEPTH + 1)), Err(Malformed));
        assert_eq!(walked(&nested(20_000)), Err(Malformed));
    }
}
