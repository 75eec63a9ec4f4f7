//! Statements of the supervisor, in the extended protocol. `sql` describes what they give.
//!
//! Values are texts as PostgreSQL writes them, in both directions; bytes go to the server as they are.

use bytes::{BufMut, Bytes, BytesMut};
use fallible_iterator::FallibleIterator as _;
use postgres_protocol::IsNull;
use postgres_protocol::message::backend::{
    DataRowBody, ErrorFields, Header, Message, RowDescriptionBody,
};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::types::kind;
use crate::limits::Limits;
use crate::sql::{
    Begin, Cells, Column, DatabaseError, MAX_PARAMETERS, Parameter, Rows, SqlClient, SqlError,
    Statement,
};

/// The startup packet of a session without settings: its length, version 3.0, and a user that means nothing.
const STARTUP: &[u8] = b"\0\0\0\x14\0\x03\0\0user\0guest\0\0";

/// A session that statements are sent to.
pub struct Client {
    stream: DuplexStream,
    buffer: BytesMut,
    max_request: u64,
    max_message: usize,
    in_transaction: bool,
    /// Whether the server owes an answer, or the session has ended.
    is_busy: bool,
    /// The number of the last cursor.
    cursors: u32,
}

impl SqlClient for Client {
    async fn connect(stream: DuplexStream, limits: &Limits) -> Result<Self, SqlError> {
        let mut client = Self {
            stream,
            buffer: BytesMut::new(),
            max_request: limits.max_request,
            // Nothing longer passes the session.
            max_message: usize::try_from(limits.max_result).unwrap_or(usize::MAX),
            in_transaction: false,
            is_busy: true,
            cursors: 0,
        };
        client.send(STARTUP).await?;
        loop {
            match client.receive().await? {
                Message::ReadyForQuery(_) => break,
                Message::ErrorResponse(error) => {
                    let error = database_error(error.fields());
                    return Err(match error.code.as_str() {
                        "53300" => SqlError::Busy(error.message),
                        _ => SqlError::Database(Box::new(error)),
                    });
                }
                _ => {}
            }
        }
        client.is_busy = false;
        Ok(client)
    }

    async fn query(&mut self, statement: &Statement) -> Result<Rows, SqlError> {
        let message = self.statement(statement, "", 0)?;
        self.run(&message).await
    }

    async fn begin(&mut self, begin: Begin) -> Result<(), SqlError> {
        let mut text = "begin".to_owned();
        if let Some(isolation) = begin.isolation {
            text.push_str(" isolation level ");
            text.push_str(isolation.words());
        }
        if begin.read_only {
            text.push_str(" read only");
        }
        let parameters = Vec::new();
        self.query(&Statement { text, parameters }).await.map(drop)
    }

    async fn open(&mut self, statement: &Statement, count: u32) -> Result<(u32, Rows), SqlError> {
        let cursor = self.cursors.wrapping_add(1);
        let message = self.statement(statement, &portal(cursor), count)?;
        self.cursors = cursor;
        let rows = self.run(&message).await?;
        if !rows.has_more {
            self.close(cursor).await?;
        }
        Ok((cursor, rows))
    }

    async fn fetch(&mut self, cursor: u32, count: u32) -> Result<Rows, SqlError> {
        let mut message = BytesMut::new();
        let portal = portal(cursor);
        frontend::describe(b'P', &portal, &mut message).map_err(|_| SqlError::Closed)?;
        execute(&portal, count, &mut message)?;
        let rows = self.run(&message).await?;
        if !rows.has_more {
            self.close(cursor).await?;
        }
        Ok(rows)
    }

    async fn close(&mut self, cursor: u32) -> Result<(), SqlError> {
        let mut message = BytesMut::new();
        frontend::close(b'P', &portal(cursor), &mut message).map_err(|_| SqlError::Closed)?;
        frontend::sync(&mut message);
        self.run(&message).await.map(drop)
    }

    fn in_transaction(&self) -> bool {
        self.in_transaction
    }

    fn is_usable(&self) -> bool {
        !self.is_busy
    }
}

/// The name of a cursor on the server.
fn portal(cursor: u32) -> String {
    format!("stockade_{cursor}")
}

/// `count` rows, or all for 0.
fn execute(portal: &str, count: u32, message: &mut BytesMut) -> Result<(), SqlError> {
    let count = i32::try_from(count).unwrap_or(i32::MAX);
    frontend::execute(portal, count, message).map_err(|_| SqlError::Closed)?;
    frontend::sync(message);
    Ok(())
}

impl Client {
    /// The messages of one statement.
    fn statement(
        &self,
        statement: &Statement,
        portal: &str,
        count: u32,
    ) -> Result<BytesMut, SqlError> {
        let Statement { text, parameters } = statement;
        if parameters.len() > MAX_PARAMETERS {
            return Err(SqlError::too_many_parameters());
        }
        let sizes = parameters.iter().map(|parameter| match parameter {
            Parameter::Text(text) | Parameter::Digits(text) => text.len(),
            Parameter::Bytes(bytes) => bytes.len(),
            _ => 32,
        });
        let size = text.len() as u64 + sizes.map(|size| size as u64 + 8).sum::<u64>() + 64;
        if size > self.max_request {
            return Err(SqlError::too_long(size, self.max_request));
        }
        let nul = |_| SqlError::refused("22021", "the text of a statement cannot hold a zero");
        let mut message = BytesMut::new();
        frontend::parse("", text, [], &mut message).map_err(nul)?;
        let formats = parameters
            .iter()
            .map(|parameter| i16::from(matches!(parameter, Parameter::Bytes(_))));
        // Results are texts.
        frontend::bind(portal, "", formats, parameters, write, [], &mut message)
            .map_err(|_| SqlError::too_many_parameters())?;
        frontend::describe(b'P', portal, &mut message).map_err(nul)?;
        execute(portal, count, &mut message)?;
        Ok(message)
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), SqlError> {
        let written = self.stream.write_all(bytes).await;
        written.map_err(|_| SqlError::Closed)
    }

    async fn receive(&mut self) -> Result<Message, SqlError> {
        loop {
            let header = Header::parse(&self.buffer).map_err(|_| SqlError::Closed)?;
            let length = header.map_or(0, |header| header.len());
            if usize::try_from(length).map_err(|_| SqlError::Closed)? > self.max_message {
                return Err(SqlError::Closed);
            }
            let message = Message::parse(&mut self.buffer).map_err(|_| SqlError::Closed)?;
            if let Some(message) = message {
                return Ok(message);
            }
            self.buffer.reserve(4096);
            let read = self.stream.read_buf(&mut self.buffer).await;
            if !matches!(read, Ok(1..)) {
                return Err(SqlError::Closed);
            }
        }
    }

    /// Sends messages that end with `Sync`, and reads their answer.
    async fn run(&mut self, message: &[u8]) -> Result<Rows, SqlError> {
        if self.is_busy {
            return Err(SqlError::Closed);
        }
        self.is_busy = true;
        // What the session said before it ended can be read after it has ended.
        let sent = self.send(message).await;
        let (mut rows, mut cells, mut error) = (Rows::default(), Cells::default(), None);
        loop {
            let received = match self.receive().await {
                Ok(message) => message,
                Err(closed) => {
                    return Err(error.map_or(closed, |error| SqlError::Database(Box::new(error))));
                }
            };
            match received {
                Message::RowDescription(body) => rows.columns = columns(&body)?,
                Message::DataRow(row) => {
                    let bytes = row_bytes(&row);
                    let taken = cells.row(&bytes, rows.columns.len());
                    taken.ok_or(SqlError::Closed)?;
                    rows.rows += 1;
                }
                Message::PortalSuspended => {
                    rows.has_more = true;
                    rows.count = rows.rows;
                }
                Message::CommandComplete(body) => {
                    let tag = body.tag().map_err(|_| SqlError::Closed)?;
                    (rows.command, rows.count) = command(tag);
                }
                // The last one says why the session ends.
                Message::ErrorResponse(body) => error = Some(database_error(body.fields())),
                Message::CopyInResponse(_) | Message::CopyOutResponse(_) => {
                    let why = "COPY needs a driver: use env.NAME.connectionString";
                    return Err(SqlError::refused("0A000", why));
                }
                Message::ReadyForQuery(state) => {
                    self.is_busy = sent.is_err();
                    self.in_transaction = state.status() != b'I';
                    rows.cells = cells.into_bytes();
                    return match error {
                        Some(error) => Err(SqlError::Database(Box::new(error))),
                        None => Ok(rows),
                    };
                }
                _ => {}
            }
        }
    }
}

/// A parameter's value.
fn write(
    parameter: &Parameter,
    buffer: &mut BytesMut,
) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
    match parameter {
        Parameter::Null => return Ok(IsNull::Yes),
        Parameter::Boolean(value) => buffer.put_slice(if *value { b"true" } else { b"false" }),
        Parameter::Integer(value) => buffer.put_slice(value.to_string().as_bytes()),
        Parameter::Real(value) => buffer.put_slice(real(*value).as_bytes()),
        Parameter::Digits(text) | Parameter::Text(text) => buffer.put_slice(text.as_bytes()),
        Parameter::Bytes(bytes) => buffer.put_slice(bytes),
    }
    Ok(IsNull::No)
}

fn real(value: f64) -> String {
    if value.is_infinite() {
        let sign = if value < 0.0 { "-" } else { "" };
        return format!("{sign}Infinity");
    }
    format!("{value:?}")
}

fn columns(body: &RowDescriptionBody) -> Result<Vec<Column>, SqlError> {
    let fields = body.fields().map(|field| {
        let (kind, is_array) = kind(field.type_oid());
        Ok(Column {
            name: field.name().to_owned(),
            kind,
            is_array,
        })
    });
    fields.collect().map_err(|_| SqlError::Closed)
}

/// The values of a row, after their count.
fn row_bytes(row: &DataRowBody) -> Bytes {
    row.buffer_bytes().clone()
}

/// What was done and with how many rows: `INSERT 0 1`, `SELECT 5`, `CREATE TABLE`.
fn command(tag: &str) -> (String, u64) {
    let words: Vec<&str> = tag.split(' ').collect();
    let is_number = |word: &&&str| word.bytes().all(|byte| byte.is_ascii_digit());
    let count = words.last().filter(is_number);
    let count = count.and_then(|word| word.parse().ok()).unwrap_or(0);
    let names: Vec<&str> = words
        .iter()
        .filter(|word| !is_number(word))
        .copied()
        .collect();
    (names.join(" "), count)
}

fn database_error(mut fields: ErrorFields<'_>) -> DatabaseError {
    let mut error = DatabaseError::default();
    while let Ok(Some(field)) = fields.next() {
        let text = String::from_utf8_lossy(field.value_bytes()).into_owned();
        match field.type_() {
            b'C' => error.code = text,
            b'M' => error.message = text,
            b'D' => error.detail = Some(text),
            b'H' => error.hint = Some(text),
            b's' => error.schema = Some(text),
            b't' => error.table = Some(text),
            b'c' => error.column = Some(text),
            b'n' => error.constraint = Some(text),
            b'P' => error.position = text.parse().ok(),
            _ => {}
        }
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_and_count_are_read_from_a_tag() {
        let check = |tag, name: &str, count| assert_eq!(command(tag), (name.to_owned(), count));
        check("INSERT 0 12", "INSERT", 12);
        check("SELECT 5", "SELECT", 5);
        check("CREATE TABLE", "CREATE TABLE", 0);
        check("FETCH 99999999999999999999", "FETCH", 0);
        check("", "", 0);
    }

    #[test]
    fn numbers_are_written_as_postgresql_reads_them() {
        for (value, text) in [
            (0.1, "0.1"),
            (1e300, "1e300"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "Infinity"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(real(value), text);
        }
    }

    #[test]
    fn startup_packet_is_whole() {
        assert_eq!(STARTUP.len(), 0x14);
    }
}
