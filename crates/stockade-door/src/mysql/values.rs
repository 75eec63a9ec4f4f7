//! Definitions of columns, and values in the binary form of prepared statements.

use super::packet::Parts;
use crate::sql::{Cells, Column, Parameter, ValueKind};

/// Types of columns, by the names of the protocol's documentation.
const TINY: u8 = 1;
const SHORT: u8 = 2;
const LONG: u8 = 3;
const FLOAT: u8 = 4;
const DOUBLE: u8 = 5;
const NULL: u8 = 6;
const TIMESTAMP: u8 = 7;
const LONGLONG: u8 = 8;
const INT24: u8 = 9;
const DATE: u8 = 10;
const TIME: u8 = 11;
const DATETIME: u8 = 12;
const YEAR: u8 = 13;
const BIT: u8 = 16;
const JSON: u8 = 245;
const BLOBS: std::ops::RangeInclusive<u8> = 249..=252;
const VAR_STRING: u8 = 253;
const STRING: u8 = 254;
const GEOMETRY: u8 = 255;

/// The flag of a column without negative numbers.
const UNSIGNED: u16 = 32;
/// The character set of bytes.
const BINARY: u16 = 63;

/// What an answer says of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Definition {
    name: String,
    charset: u16,
    of_type: u8,
    is_unsigned: bool,
}

impl Definition {
    /// Reads a definition. `None` where it is not one.
    pub(super) fn parse(payload: &[u8]) -> Option<Self> {
        let mut parts = Parts(payload);
        let mut text = || {
            let length = usize::try_from(parts.number()?).ok()?;
            parts.take(length)
        };
        // The catalog, the schema, the table and its own name; the name of the column, and its own.
        for _ in 0..4 {
            text()?;
        }
        let name = String::from_utf8_lossy(text()?).into_owned();
        text()?;
        parts.number()?;
        let charset = parts.u16()?;
        parts.u32()?;
        Some(Self {
            name,
            charset,
            of_type: parts.u8()?,
            is_unsigned: parts.u16()? & UNSIGNED != 0,
        })
    }

    pub(super) fn column(&self) -> Column {
        Column {
            name: self.name.clone(),
            kind: self.kind(),
            is_array: false,
        }
    }

    fn kind(&self) -> ValueKind {
        let is_binary = self.charset == BINARY;
        match self.of_type {
            TINY | SHORT | LONG | INT24 | YEAR | FLOAT | DOUBLE => ValueKind::Number,
            LONGLONG => ValueKind::Integer,
            TIMESTAMP | DATETIME | DATE => ValueKind::Date,
            JSON => ValueKind::Json,
            BIT | GEOMETRY => ValueKind::Bytes,
            of_type if is_binary && (BLOBS.contains(&of_type) || of_type >= VAR_STRING) => {
                ValueKind::Bytes
            }
            _ => ValueKind::Text,
        }
    }

    /// Reads one value that is not `NULL`, and adds it as a text. `None` where it is not one.
    fn value(&self, parts: &mut Parts<'_>, cells: &mut Cells) -> Option<()> {
        let width = match self.of_type {
            TINY => 1,
            SHORT | YEAR => 2,
            LONG | INT24 => 4,
            LONGLONG => 8,
            FLOAT => {
                let value = f32::from_bits(parts.u32()?);
                return cells.value(value.to_string().as_bytes());
            }
            DOUBLE => {
                let value = f64::from_bits(integer(parts.take(8)?));
                return cells.value(format!("{value:?}").as_bytes());
            }
            TIMESTAMP | DATETIME | DATE => {
                let text = date(parts, self.of_type)?;
                return cells.value(text.as_bytes());
            }
            TIME => return cells.value(time(parts)?.as_bytes()),
            NULL => {
                cells.null();
                return Some(());
            }
            _ => {
                let length = usize::try_from(parts.number()?).ok()?;
                return cells.value(parts.take(length)?);
            }
        };
        let bits = integer(parts.take(width)?);
        let text = if self.is_unsigned {
            bits.to_string()
        } else {
            // The sign is the highest bit of the value's own width.
            let unused = 64 - 8 * width;
            ((bits << unused).cast_signed() >> unused).to_string()
        };
        cells.value(text.as_bytes())
    }
}

/// A number in the order of bytes that the protocol has.
fn integer(bytes: &[u8]) -> u64 {
    let bytes = bytes.iter().rev();
    bytes.fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// A date as a text. A date that a database writes with zeros stays one.
fn date(parts: &mut Parts<'_>, of_type: u8) -> Option<String> {
    let length = parts.u8()?;
    let (mut year, mut month, mut day) = (0, 0, 0);
    if length >= 4 {
        (year, month, day) = (parts.u16()?, parts.u8()?, parts.u8()?);
    }
    let date = format!("{year:04}-{month:02}-{day:02}");
    let of_day = clock(parts, length.saturating_sub(4))?;
    Some(if of_type == DATE {
        date
    } else {
        format!("{date} {of_day}")
    })
}

/// A time as a text, which may be negative and of more than a day.
fn time(parts: &mut Parts<'_>) -> Option<String> {
    let length = parts.u8()?;
    if length == 0 {
        return Some("00:00:00".to_owned());
    }
    let sign = if parts.u8()? == 0 { "" } else { "-" };
    let days = u64::from(parts.u32()?);
    let of_day = clock(parts, length.saturating_sub(5))?;
    let (hours, rest) = of_day.split_once(':')?;
    let hours = days * 24 + hours.parse::<u64>().ok()?;
    Some(format!("{sign}{hours:02}:{rest}"))
}

/// Hours, minutes, seconds and perhaps parts of them, in `length` bytes.
fn clock(parts: &mut Parts<'_>, length: u8) -> Option<String> {
    let (hours, minutes, seconds, micros) = match length {
        0 => (0, 0, 0, 0),
        3 => (parts.u8()?, parts.u8()?, parts.u8()?, 0),
        7 => (parts.u8()?, parts.u8()?, parts.u8()?, parts.u32()?),
        _ => return None,
    };
    let whole = format!("{hours:02}:{minutes:02}:{seconds:02}");
    Some(if micros == 0 {
        whole
    } else {
        format!("{whole}.{micros:06}")
    })
}

/// Reads a row of the binary form. `None` where it is not one.
pub(super) fn row(payload: &[u8], definitions: &[Definition], cells: &mut Cells) -> Option<()> {
    let mut parts = Parts(payload.strip_prefix(&[0])?);
    // One bit for each column, after two that mean nothing.
    let nulls = parts.take((definitions.len() + 9) / 8)?;
    for (index, definition) in definitions.iter().enumerate() {
        let bit = index + 2;
        if nulls[bit / 8] & 1 << (bit % 8) != 0 {
            cells.null();
        } else {
            definition.value(&mut parts, cells)?;
        }
    }
    parts.0.is_empty().then_some(())
}

/// Writes the values of parameters: which are `NULL`, their types, and the others.
pub(super) fn encode(parameters: &[Parameter], payload: &mut Vec<u8>) {
    let mut nulls = vec![0_u8; parameters.len().div_ceil(8)];
    let (mut types, mut values) = (Vec::new(), Vec::new());
    for (index, parameter) in parameters.iter().enumerate() {
        let (of_type, is_unsigned) = match parameter {
            Parameter::Null => {
                nulls[index / 8] |= 1 << (index % 8);
                (NULL, false)
            }
            Parameter::Boolean(value) => {
                values.push(u8::from(*value));
                (TINY, false)
            }
            Parameter::Integer(value) => {
                values.extend(value.to_le_bytes());
                (LONGLONG, false)
            }
            Parameter::Real(value) => {
                values.extend(value.to_le_bytes());
                (DOUBLE, false)
            }
            Parameter::Digits(digits) => match digits.parse::<u64>() {
                Ok(value) => {
                    values.extend(value.to_le_bytes());
                    (LONGLONG, true)
                }
                Err(_) => {
                    prefixed(digits.as_bytes(), &mut values);
                    (VAR_STRING, false)
                }
            },
            Parameter::Text(text) => {
                prefixed(text.as_bytes(), &mut values);
                (STRING, false)
            }
            Parameter::Bytes(bytes) => {
                prefixed(bytes, &mut values);
                (*BLOBS.end(), false)
            }
        };
        types.extend([of_type, if is_unsigned { 0x80 } else { 0 }]);
    }
    payload.extend(nulls);
    // The types come with the values.
    payload.push(1);
    payload.extend(types);
    payload.extend(values);
}

/// Bytes after their length, in the form that [`Parts::number`] reads.
fn prefixed(bytes: &[u8], to: &mut Vec<u8>) {
    let length = bytes.len() as u64;
    let whole = length.to_le_bytes();
    match length {
        0..=0xfa => to.push(whole[0]),
        0xfb..=0xffff => {
            to.push(0xfc);
            to.extend(&whole[..2]);
        }
        _ => {
            to.push(0xfe);
            to.extend(whole);
        }
    }
    to.extend(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(of_type: u8, is_unsigned: bool) -> Definition {
        Definition {
            name: "a".to_owned(),
            charset: BINARY,
            of_type,
            is_unsigned,
        }
    }

    /// What a value of one column is as a text.
    fn check(of_type: u8, is_unsigned: bool, value: &[u8], expected: Option<&str>) {
        let payload = [&[0, 0], value].concat();
        let mut cells = Cells::default();
        let read = row(&payload, &[definition(of_type, is_unsigned)], &mut cells);
        let text = read.map(|()| String::from_utf8(cells.into_bytes().split_off(4)).unwrap());
        assert_eq!(text.as_deref(), expected, "{of_type} {value:?}");
    }

    #[test]
    fn values_are_texts() {
        check(TINY, false, &[0xff], Some("-1"));
        check(TINY, true, &[0xff], Some("255"));
        check(SHORT, false, &[0, 0x80], Some("-32768"));
        check(LONG, true, &[0xff; 4], Some("4294967295"));
        check(
            LONGLONG,
            false,
            &i64::MIN.to_le_bytes(),
            Some("-9223372036854775808"),
        );
        check(LONGLONG, true, &[0xff; 8], Some("18446744073709551615"));
        check(FLOAT, false, &0.1_f32.to_le_bytes(), Some("0.1"));
        check(DOUBLE, false, &1e300_f64.to_le_bytes(), Some("1e300"));
        check(DATE, false, &[4, 0xea, 7, 2, 3], Some("2026-02-03"));
        check(DATETIME, false, &[0], Some("0000-00-00 00:00:00"));
        check(
            DATETIME,
            false,
            &[11, 0xea, 7, 2, 3, 4, 5, 6, 7, 0, 0, 0],
            Some("2026-02-03 04:05:06.000007"),
        );
        check(TIME, false, &[8, 1, 2, 0, 0, 0, 3, 4, 5], Some("-51:04:05"));
        check(VAR_STRING, false, b"\x02ab", Some("ab"));
    }

    #[test]
    fn values_that_are_forged_are_refused() {
        check(LONG, false, &[1, 2, 3], None);
        check(LONG, false, &[1, 2, 3, 4, 5], None);
        check(DATETIME, false, &[5, 1, 1, 1, 1, 1], None);
        check(TIME, false, &[255, 1, 1, 1, 1, 1], None);
        check(
            VAR_STRING,
            false,
            b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff",
            None,
        );
        check(VAR_STRING, false, b"\x03ab", None);
        for payload in [&b""[..], b"\0", b"\x01\0"] {
            assert!(row(payload, &[definition(TINY, false)], &mut Cells::default()).is_none());
        }
        for end in 0..30 {
            let payload = &b"\x03def\x01d\x01t\x01t\x01a\x01a\x0c\x3f\0\0\0\0\0\x08\x20\0\0\0\0"
                [..end.min(27)];
            let parsed = Definition::parse(payload);
            assert_eq!(parsed.is_some(), end >= 24, "{end}");
        }
    }

    #[test]
    fn parameters_are_written_with_their_types() {
        let mut payload = Vec::new();
        let parameters = [
            Parameter::Null,
            Parameter::Boolean(true),
            Parameter::Digits("18446744073709551615".to_owned()),
            Parameter::Text("a".repeat(300)),
        ];
        encode(&parameters, &mut payload);
        let begin = [&[1, 1, 6, 0, 1, 0, 8, 0x80, 254, 0, 1][..], &[0xff; 8]].concat();
        assert_eq!(payload[..begin.len()], begin);
        assert_eq!(payload[begin.len()..][..4], [0xfc, 44, 1, b'a']);
    }
}
