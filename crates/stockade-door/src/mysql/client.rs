//! Statements of the supervisor. `sql` describes what they give.
//!
//! One with parameters is prepared, executed and closed, and its rows come in the binary form, which `values` turns
//! into texts. One without is a `COM_QUERY`, whose rows are texts; some statements cannot be prepared.

use std::collections::HashMap;

use bytes::BytesMut;
use tokio::io::{AsyncWriteExt as _, DuplexStream};

use super::greeting::USUAL;
use super::packet::{FULL, Parts, packet, receive};
use super::response::{HAS_CURSOR, IN_TRANSACTION, MAX_COLUMNS, MORE_RESULTS};
use super::values::{Definition, encode, row};
use crate::limits::Limits;
use crate::sql::{
    Begin, Cells, DatabaseError, MAX_PARAMETERS, Parameter, Rows, SqlClient, SqlError, Statement,
};

const COM_QUERY: u8 = 0x03;
const COM_STMT_PREPARE: u8 = 0x16;
const COM_STMT_EXECUTE: u8 = 0x17;
const COM_STMT_CLOSE: u8 = 0x19;
const COM_STMT_FETCH: u8 = 0x1c;

/// A cursor of `COM_STMT_EXECUTE`.
const READ_ONLY_CURSOR: u8 = 1;
/// Flag of the server's status: a cursor has no more rows.
const LAST_ROW_SENT: u16 = 0x80;

/// `utf8mb4_general_ci`.
const UTF8MB4: u8 = 45;
const PROTOCOL_41: u32 = 1 << 9;

/// A session that statements are sent to.
pub struct Client {
    stream: DuplexStream,
    buffer: BytesMut,
    max_request: u64,
    max_message: usize,
    in_transaction: bool,
    /// Whether the server owes an answer, or the session has ended.
    is_busy: bool,
    /// The cursors that have more rows, by the numbers of their statements.
    cursors: HashMap<u32, Vec<Definition>>,
}

/// How the rows of an answer are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Binary,
}

/// An answer as it is read.
struct Answer {
    rows: Rows,
    definitions: Vec<Definition>,
    status: u16,
}

impl SqlClient for Client {
    async fn connect(stream: DuplexStream, limits: &Limits) -> Result<Self, SqlError> {
        let mut client = Self {
            stream,
            buffer: BytesMut::new(),
            max_request: limits.max_request.min(FULL as u64 - 1),
            max_message: usize::try_from(limits.max_result).unwrap_or(usize::MAX),
            in_transaction: false,
            is_busy: true,
            cursors: HashMap::new(),
        };
        // 1. The door's greeting says nothing that is needed. Its answer is a choice, and who asks means nothing.
        client.accepted().await?;
        let mut answer = (PROTOCOL_41 | USUAL).to_le_bytes().to_vec();
        answer.extend([0; 4]);
        answer.push(UTF8MB4);
        answer.extend([0; 23]);
        answer.extend(b"guest\0\0");
        client.send(1, &answer).await?;
        client.accepted().await?;
        client.is_busy = false;
        // 2. Times of this session are those of UTC, as JavaScript's are.
        client.simple("set time_zone = '+00:00'").await?;
        Ok(client)
    }

    async fn query(&mut self, statement: &Statement) -> Result<Rows, SqlError> {
        if statement.parameters.is_empty() {
            return self.simple(&statement.text).await;
        }
        let (id, answer) = self.prepared(statement, 0).await?;
        self.close_statement(id).await?;
        Ok(answer.rows)
    }

    async fn begin(&mut self, begin: Begin) -> Result<(), SqlError> {
        if let Some(isolation) = begin.isolation {
            let text = format!("set transaction isolation level {}", isolation.words());
            self.simple(&text).await?;
        }
        let mode = if begin.read_only { " read only" } else { "" };
        self.simple(&format!("start transaction{mode}")).await?;
        // The server says so with the first statement that reads or writes.
        self.in_transaction = true;
        Ok(())
    }

    async fn open(&mut self, statement: &Statement, count: u32) -> Result<(u32, Rows), SqlError> {
        let (id, answer) = self.prepared(statement, READ_ONLY_CURSOR).await?;
        if answer.status & HAS_CURSOR == 0 {
            // The statement has no rows, or the server gave all of them.
            self.close_statement(id).await?;
            return Ok((id, answer.rows));
        }
        self.cursors.insert(id, answer.definitions);
        Ok((id, self.fetch(id, count).await?))
    }

    async fn fetch(&mut self, cursor: u32, count: u32) -> Result<Rows, SqlError> {
        let no_cursor = || SqlError::refused("24000", "the cursor is closed");
        let definitions = self.cursors.remove(&cursor).ok_or_else(no_cursor)?;
        let mut payload = vec![COM_STMT_FETCH];
        payload.extend(cursor.to_le_bytes());
        payload.extend(count.to_le_bytes());
        self.command(&payload).await?;
        let mut rows = columns(&definitions);
        let status = self.rows(&definitions, Form::Binary, &mut rows).await?;
        self.is_busy = false;
        rows.count = rows.rows;
        rows.has_more = status & LAST_ROW_SENT == 0;
        if rows.has_more {
            self.cursors.insert(cursor, definitions);
        } else {
            self.close_statement(cursor).await?;
        }
        Ok(rows)
    }

    async fn close(&mut self, cursor: u32) -> Result<(), SqlError> {
        match self.cursors.remove(&cursor) {
            Some(_) => self.close_statement(cursor).await,
            None => Ok(()),
        }
    }

    fn in_transaction(&self) -> bool {
        self.in_transaction
    }

    fn is_usable(&self) -> bool {
        !self.is_busy
    }
}

impl Client {
    async fn send(&mut self, sequence: u8, payload: &[u8]) -> Result<(), SqlError> {
        let written = self.stream.write_all(&packet(sequence, payload)).await;
        written.map_err(|_| SqlError::Closed)
    }

    /// Sends a command whose answer is to be read.
    async fn command(&mut self, payload: &[u8]) -> Result<(), SqlError> {
        if self.is_busy {
            return Err(SqlError::Closed);
        }
        let size = payload.len() as u64;
        if size > self.max_request {
            return Err(SqlError::too_long(size, self.max_request));
        }
        self.is_busy = true;
        // What the session said before it ended can be read after it has ended.
        let _ = self.send(0, payload).await;
        Ok(())
    }

    /// The next payload, of one packet or several.
    async fn receive(&mut self) -> Result<BytesMut, SqlError> {
        let mut whole = BytesMut::new();
        loop {
            let most = self.max_message.saturating_sub(whole.len()).min(FULL);
            let received = receive(&mut self.buffer, &mut self.stream, most).await;
            let (_, payload) = received.map_err(|_| SqlError::Closed)?;
            let is_last = payload.len() < FULL;
            if is_last && whole.is_empty() {
                return Ok(payload);
            }
            whole.extend_from_slice(&payload);
            if is_last {
                return Ok(whole);
            }
        }
    }

    /// A packet other than an error.
    async fn accepted(&mut self) -> Result<BytesMut, SqlError> {
        let payload = self.receive().await?;
        if payload.first() == Some(&0xff) {
            return Err(self.failed(&payload));
        }
        Ok(payload)
    }

    /// An error, which ends an answer. One of the door ends the session, which shows with the next command.
    fn failed(&mut self, payload: &[u8]) -> SqlError {
        self.is_busy = false;
        let error = database_error(payload);
        // ER_LOCK_DEADLOCK: the server has rolled the transaction back.
        self.in_transaction &= error.number != Some(1213);
        match error.number {
            // ER_CON_COUNT_ERROR
            Some(1040) => SqlError::Busy(error.message),
            _ => SqlError::Database(Box::new(error)),
        }
    }

    async fn simple(&mut self, text: &str) -> Result<Rows, SqlError> {
        self.command(&[&[COM_QUERY], text.as_bytes()].concat())
            .await?;
        Ok(self.answer(Form::Text).await?.rows)
    }

    /// Prepares and executes a statement, which stays prepared.
    async fn prepared(
        &mut self,
        statement: &Statement,
        flags: u8,
    ) -> Result<(u32, Answer), SqlError> {
        // 1. The statement's number, and how many parameters it has.
        let Statement { text, parameters } = statement;
        if parameters.len() > MAX_PARAMETERS {
            return Err(SqlError::too_many_parameters());
        }
        self.command(&[&[COM_STMT_PREPARE], text.as_bytes()].concat())
            .await?;
        let first = self.accepted().await?;
        let mut parts = Parts(first.get(1..).unwrap_or_default());
        let counts = (parts.u32(), parts.u16(), parts.u16());
        let (Some(id), Some(columns), Some(wanted)) = counts else {
            return Err(SqlError::Closed);
        };
        for count in [wanted, columns] {
            // Definitions, and the packet that ends them.
            for _ in 0..u32::from(count) + u32::from(count > 0) {
                self.accepted().await?;
            }
        }
        self.is_busy = false;
        // 2. The parameters.
        if parameters.len() != usize::from(wanted) {
            self.close_statement(id).await?;
            let given = parameters.len();
            let why = format!("the statement has {wanted} parameters, and {given} were given");
            return Err(SqlError::refused("07001", why));
        }
        let payload = execution(id, flags, parameters);
        let answer = match self.command(&payload).await {
            Ok(()) => self.answer(Form::Binary).await,
            Err(error) => Err(error),
        };
        match answer {
            Ok(answer) => Ok((id, answer)),
            Err(error) => {
                if !self.is_busy {
                    self.close_statement(id).await?;
                }
                Err(error)
            }
        }
    }

    /// Closes a statement. There is no answer to that.
    async fn close_statement(&mut self, id: u32) -> Result<(), SqlError> {
        let mut payload = vec![COM_STMT_CLOSE];
        payload.extend(id.to_le_bytes());
        self.send(0, &payload).await
    }

    /// Reads an answer: the first of its results that has rows, or the last one.
    async fn answer(&mut self, form: Form) -> Result<Answer, SqlError> {
        let mut kept: Option<Answer> = None;
        loop {
            let answer = self.result(form).await?;
            let status = answer.status;
            match &mut kept {
                Some(kept) if !kept.definitions.is_empty() => kept.status = status,
                kept => *kept = Some(answer),
            }
            self.in_transaction = status & IN_TRANSACTION != 0;
            if status & MORE_RESULTS == 0 {
                self.is_busy = false;
                return kept.ok_or(SqlError::Closed);
            }
        }
    }

    /// Reads one result.
    async fn result(&mut self, form: Form) -> Result<Answer, SqlError> {
        let first = self.accepted().await?;
        if first.first() == Some(&0) {
            return done(&first).ok_or(SqlError::Closed);
        }
        // 1. The columns.
        let count = Parts(&first).number();
        let count = count.filter(|count| (1..=MAX_COLUMNS).contains(count));
        let mut definitions = Vec::new();
        for _ in 0..count.ok_or(SqlError::Closed)? {
            let payload = self.accepted().await?;
            definitions.push(Definition::parse(&payload).ok_or(SqlError::Closed)?);
        }
        let mut rows = columns(&definitions);
        let end = self.accepted().await?;
        let mut status = end_status(&end).ok_or(SqlError::Closed)?;
        // 2. The rows, unless a cursor has them.
        if status & HAS_CURSOR == 0 {
            status = self.rows(&definitions, form, &mut rows).await?;
        }
        rows.count = rows.rows;
        Ok(Answer {
            rows,
            definitions,
            status,
        })
    }

    /// Reads rows up to their end, and gives the server's status.
    async fn rows(
        &mut self,
        definitions: &[Definition],
        form: Form,
        rows: &mut Rows,
    ) -> Result<u16, SqlError> {
        let mut cells = Cells::default();
        loop {
            let payload = self.accepted().await?;
            if payload.first() == Some(&0xfe) && payload.len() < 9 {
                let status = end_status(&payload).ok_or(SqlError::Closed)?;
                self.in_transaction = status & IN_TRANSACTION != 0;
                rows.cells = cells.into_bytes();
                return Ok(status);
            }
            let read = match form {
                Form::Text => text_row(&payload, definitions.len(), &mut cells),
                Form::Binary => row(&payload, definitions, &mut cells),
            };
            read.ok_or(SqlError::Closed)?;
            rows.rows += 1;
        }
    }
}

/// `COM_STMT_EXECUTE`.
fn execution(id: u32, flags: u8, parameters: &[Parameter]) -> Vec<u8> {
    let mut payload = vec![COM_STMT_EXECUTE];
    payload.extend(id.to_le_bytes());
    payload.push(flags);
    // The count of iterations, which is always 1.
    payload.extend(1_u32.to_le_bytes());
    if !parameters.is_empty() {
        encode(parameters, &mut payload);
    }
    payload
}

fn columns(definitions: &[Definition]) -> Rows {
    Rows {
        columns: definitions.iter().map(Definition::column).collect(),
        ..Rows::default()
    }
}

/// `OK`: the count of changed rows, the generated number, and the status.
fn done(payload: &[u8]) -> Option<Answer> {
    let mut parts = Parts(payload.get(1..)?);
    let count = parts.number()?;
    let id = parts.number()?;
    let status = parts.u16()?;
    Some(Answer {
        rows: Rows {
            count,
            last_insert_id: (id != 0).then_some(id),
            ..Rows::default()
        },
        definitions: Vec::new(),
        status,
    })
}

/// The status in `EOF`, after a count of warnings.
fn end_status(payload: &[u8]) -> Option<u16> {
    let mut parts = Parts(payload.strip_prefix(&[0xfe])?);
    parts.u16()?;
    parts.u16()
}

/// A row of texts.
fn text_row(payload: &[u8], columns: usize, cells: &mut Cells) -> Option<()> {
    let mut parts = Parts(payload);
    for _ in 0..columns {
        if let Some(rest) = parts.0.strip_prefix(&[0xfb]) {
            parts.0 = rest;
            cells.null();
            continue;
        }
        let length = usize::try_from(parts.number()?).ok()?;
        cells.value(parts.take(length)?)?;
    }
    parts.0.is_empty().then_some(())
}

fn database_error(payload: &[u8]) -> DatabaseError {
    let mut parts = Parts(payload.get(1..).unwrap_or_default());
    let number = parts.u16();
    let (state, message) = match parts.0 {
        [b'#', rest @ ..] => rest.split_at_checked(5).unwrap_or((b"HY000", rest)),
        rest => (&b"HY000"[..], rest),
    };
    DatabaseError {
        code: String::from_utf8_lossy(state).into_owned(),
        number,
        message: String::from_utf8_lossy(message).into_owned(),
        ..DatabaseError::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_texts_are_read_whole() {
        let mut cells = Cells::default();
        assert!(text_row(b"\x02ab\xfb\x00", 3, &mut cells).is_some());
        assert_eq!(cells.into_bytes(), b"\0\0\0\x02ab\xff\xff\xff\xff\0\0\0\0");
        let forged: [&[u8]; 5] = [b"", b"\x02a", b"\x01a\x01", b"\xff", b"\x01a\x01b"];
        for payload in forged {
            assert!(
                text_row(payload, 1, &mut Cells::default()).is_none(),
                "{payload:?}"
            );
        }
    }

    #[test]
    fn errors_have_a_state_and_a_number() {
        let error = database_error(b"\xff\x15\x04#28000no");
        assert_eq!((error.code.as_str(), error.number), ("28000", Some(1045)));
        assert_eq!(error.message, "no");
        for payload in [&b""[..], b"\xff", b"\xff\x15\x04#28", b"\xff\x15\x04\xff"] {
            assert_eq!(database_error(payload).code, "HY000");
        }
    }
}
