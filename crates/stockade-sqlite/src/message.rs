//! What supervisor and worker say to each other: frames of a length (four bytes, little endian) and a postcard value.

use std::io::{self, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Bytes of rows that the worker puts into one frame before it sends it.
pub(crate) const PIECE: usize = 64 << 10;

/// Bytes that a frame may have beyond the values in it: names, numbers, one error.
const SPARE: usize = 64 << 10;

/// Columns of a result: SQLITE_LIMIT_COLUMN.
pub(crate) const MOST_COLUMNS: usize = 100;

/// Statements of one call.
pub(crate) const MOST_STATEMENTS: usize = 1_000;

/// Characters of an error's message.
pub(crate) const MOST_MESSAGE: usize = 2_000;

/// Bytes that a row costs a receiver besides its values, about.
pub(crate) const ROW: usize = 32;

/// Bytes of one text or blob, and of a row: SQLITE_LIMIT_LENGTH.
pub(crate) const MOST_LENGTH: usize = 2 << 20;

/// Largest frame from the worker in bytes: a piece that was nearly full, and a row.
pub(crate) const MOST_ANSWER: usize = PIECE + MOST_LENGTH + SPARE;

/// A value of SQLite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Value {
    /// `NULL`.
    Null,
    /// An integer of 64 bits.
    Integer(i64),
    /// A floating point number.
    Real(f64),
    /// A text.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

impl Value {
    /// Bytes that the value costs a receiver, about.
    pub(crate) fn cost(&self) -> usize {
        16 + match self {
            Self::Null | Self::Integer(_) | Self::Real(_) => 0,
            Self::Text(text) => text.len(),
            Self::Blob(bytes) => bytes.len(),
        }
    }
}

/// One statement with its parameters, in the order `?1`, `?2` and so on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Statement {
    /// The text of exactly one statement.
    pub sql: String,
    /// The values of its parameters.
    pub parameters: Vec<Value>,
}

/// A column of a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name, which need not be the only one.
    pub name: String,
}

/// What a statement gave.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rows {
    /// The columns; none for a statement that gives no rows.
    pub columns: Vec<Column>,
    /// The rows, each with a value for each column.
    pub rows: Vec<Vec<Value>>,
    /// Rows that it inserted, changed or deleted.
    pub changes: u64,
    /// The row id of the last row that was inserted on this connection.
    pub last_row_id: i64,
    /// Microseconds that it took.
    pub micros: u64,
    /// Bytes of the database after it.
    pub size: u64,
    /// Steps of SQLite's virtual machine: what it cost, whatever the machine.
    pub steps: u64,
}

/// From the supervisor. Each is answered before the next one is sent.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Opens the database: the first request.
    Open(Settings),
    /// Runs statements, all or none of them.
    Run {
        statements: Vec<Statement>,
        /// Milliseconds that they may take together.
        time: u64,
        /// Whether they belong to the open transaction.
        inside: bool,
    },
    /// Runs all statements of a text, all or none of them, and forgets their rows.
    Execute {
        sql: String,
        time: u64,
        inside: bool,
    },
    /// Begins a transaction.
    Begin { time: u64 },
    /// Ends it.
    Commit { time: u64 },
    /// Ends it without an effect. Nothing happens outside of one.
    RollBack,
}

/// What a database is opened with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) read_only: bool,
    /// Bytes of the database file.
    pub(crate) storage: u64,
    /// Bytes of memory for SQLite.
    pub(crate) memory: u64,
    /// Bytes of one result, as [`Value::cost`] counts.
    pub(crate) most_result: u64,
}

/// From the worker. Each request is answered by any number of `Columns` and `Rows`, `End` for each statement, and one
/// `Done` or `Failed`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Columns(Vec<Column>),
    Rows(Vec<Vec<Value>>),
    End {
        changes: u64,
        last_row_id: i64,
        micros: u64,
        size: u64,
        steps: u64,
    },
    Done,
    /// In a transaction the request had no effect, and the transaction goes on.
    Failed {
        /// The name of the error code, as `SQLITE_CONSTRAINT_UNIQUE`.
        code: String,
        message: String,
        /// Which statement of the request.
        statement: u32,
    },
}

/// A frame with a value in it.
pub(crate) fn frame(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let bytes = postcard::to_extend(value, vec![0; 4]).map_err(io::Error::other)?;
    let length = u32::try_from(bytes.len() - 4).map_err(io::Error::other)?;
    let mut bytes = bytes;
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    Ok(bytes)
}

/// Writes one frame.
pub(crate) fn write(to: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    to.write_all(&frame(value)?)
}

/// Reads one frame of the supervisor; `None` at the end.
pub(crate) fn read<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let length = usize::try_from(u32::from_le_bytes(length)).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes)?;
    postcard::from_bytes(&bytes)
        .map(Some)
        .map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_as_they_were() {
        let statement = Statement {
            sql: "select ?".to_owned(),
            parameters: vec![
                Value::Null,
                Value::Integer(i64::MIN),
                Value::Real(0.5),
                Value::Text("\u{0}a".to_owned()),
                Value::Blob(vec![0, 255]),
            ],
        };
        let bytes = frame(&statement).unwrap();
        let mut from = &bytes[..];
        assert_eq!(read::<Statement>(&mut from).unwrap(), Some(statement));
        assert!(read::<Statement>(&mut from).unwrap().is_none());
    }

    #[test]
    fn frames_that_break_off_are_errors() {
        let bytes = frame(&Value::Text("text".to_owned())).unwrap();
        read::<Value>(&mut &bytes[..bytes.len() - 1]).unwrap_err();
        let mut wrong = bytes.clone();
        wrong[4] = 9;
        read::<Value>(&mut &wrong[..]).unwrap_err();
    }
}
