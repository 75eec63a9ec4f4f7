//! Statements that the supervisor runs for a guest, on a connection of the same pool: one at a time, with parameters,
//! and with the limits of a session.
//!
//! Values are texts, as PostgreSQL writes and reads them. The type of each column is given with them.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use fallible_iterator::FallibleIterator as _;
use postgres_protocol::IsNull;
use postgres_protocol::message::backend::{DataRowBody, ErrorFields, Message, RowDescriptionBody};
use postgres_protocol::message::frontend;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::door::Door;
use super::wire::{Connection, TOO_LONG};
use crate::limits::Limits;
use crate::pool::{OwnerId, Place};
use crate::server::{GRACE, ServerError};

/// A column of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// The object id of its type, such as 20 for `int8`.
    pub type_oid: u32,
}

/// A result.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows {
    /// Empty for a statement without a result.
    pub columns: Vec<Column>,
    /// A text for each column, or `None` for `NULL`.
    pub rows: Vec<Vec<Option<Bytes>>>,
    /// What the server did, such as `INSERT 0 1`.
    pub tag: String,
}

/// An error of the database, whose fields guests may see.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DatabaseError {
    /// SQLSTATE.
    pub code: String,
    /// What is wrong.
    pub message: String,
    /// More about that.
    pub detail: Option<String>,
    /// What may help.
    pub hint: Option<String>,
    /// The table that it concerns.
    pub table: Option<String>,
    /// The column that it concerns.
    pub column: Option<String>,
    /// The constraint that does not hold.
    pub constraint: Option<String>,
}

/// Why a statement has no result.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The database refused it, or a limit of the grant was reached.
    #[error("{}: {}", .0.code, .0.message)]
    Database(Box<DatabaseError>),
    /// The connection cannot be used any more.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The owner of the connection has ended.
    #[error("the isolate has ended")]
    Ended,
}

/// A connection that is used for statements. Dropped, it is closed, which rolls back; [`Lease::finish`] keeps it.
pub struct Lease {
    door: Arc<Door>,
    connection: Option<(Connection, Place<Connection>)>,
    ended: CancellationToken,
    is_busy: bool,
    was_cancelled: bool,
    in_transaction: bool,
}

impl Door {
    /// Takes a connection for statements of an owner.
    ///
    /// # Errors
    /// When there is none.
    pub async fn lease(self: &Arc<Self>, owner: OwnerId) -> Result<Lease, ServerError> {
        let (mut connection, place) = self.take(owner).await?;
        // One row may have as many bytes as a result.
        let most = usize::try_from(self.limits.max_result).unwrap_or(usize::MAX);
        connection.max_message = connection.max_message.max(most);
        Ok(Lease {
            door: Arc::clone(self),
            ended: place.ended(),
            connection: Some((connection, place)),
            is_busy: false,
            was_cancelled: false,
            in_transaction: false,
        })
    }
}

impl Lease {
    /// Whether a transaction is open.
    #[must_use]
    pub fn in_transaction(&self) -> bool {
        self.in_transaction
    }

    /// Runs one statement. Its parameters are texts, whose types the server infers.
    ///
    /// # Errors
    /// When the database refuses it, or a limit is reached. If the server did not end the statement, or with an error
    /// that is not the database's, the connection is closed and every further statement fails.
    pub async fn query(
        &mut self,
        statement: &str,
        parameters: &[Option<Vec<u8>>],
    ) -> Result<Rows, QueryError> {
        let message = self.message(statement, parameters)?;
        let until = Instant::now() + self.door.limits.statement;
        self.is_busy = true;
        let ended = self.ended.clone();
        let answered = tokio::select! {
            answered = self.run(&message, until) => answered,
            () = ended.cancelled() => Err(QueryError::Ended),
        };
        if self.is_busy {
            self.close();
        }
        answered
    }

    /// Keeps the connection for the next session, if no transaction is open.
    pub async fn finish(mut self) {
        if self.is_busy || self.in_transaction || self.was_cancelled {
            return;
        }
        if let Some((mut connection, place)) = self.connection.take()
            && connection.reset().await.is_ok()
        {
            place.give_back(connection);
        }
    }

    fn message(
        &self,
        statement: &str,
        parameters: &[Option<Vec<u8>>],
    ) -> Result<BytesMut, QueryError> {
        let sizes = parameters.iter().flatten().map(|value| value.len() as u64);
        let size = statement.len() as u64 + sizes.sum::<u64>();
        let most = self.door.limits.max_request;
        if size > most {
            let why = format!("a statement of {size} bytes is too long: this grant allows {most}");
            return Err(limit("54000", why));
        }
        let invalid = |why: &str| limit("22021", why.to_owned());
        let mut message = BytesMut::new();
        let nul = |_| invalid("a statement cannot hold a zero byte");
        frontend::parse("", statement, [], &mut message).map_err(nul)?;
        let write = |value: &Option<Vec<u8>>, buffer: &mut BytesMut| {
            let Some(value) = value else {
                return Ok(IsNull::Yes);
            };
            buffer.put_slice(value);
            Ok(IsNull::No)
        };
        frontend::bind("", "", [], parameters, write, [], &mut message)
            .map_err(|_| invalid("a statement has at most 32,767 parameters"))?;
        frontend::describe(b'P', "", &mut message).map_err(nul)?;
        frontend::execute("", 0, &mut message).map_err(nul)?;
        frontend::sync(&mut message);
        Ok(message)
    }

    /// Sends a statement and reads its answer. Over a limit, the statement is cancelled.
    async fn run(&mut self, message: &[u8], until: Instant) -> Result<Rows, QueryError> {
        let limits = self.door.limits.clone();
        let Some((connection, _)) = &mut self.connection else {
            return Err(ServerError::Protocol("the connection was closed").into());
        };
        let key = connection.key;
        let (mut rows, mut bytes, mut error) = (Rows::default(), 0_u64, None);
        let (mut over, mut until, mut is_cancelled) = (None, until, false);
        let sent = timeout_at(until, connection.send(message)).await;
        sent.map_err(|_| ServerError::Slow(limits.statement))??;
        loop {
            let Ok(received) = timeout_at(until, connection.receive()).await else {
                if is_cancelled {
                    return Err(over.unwrap_or(ServerError::Slow(GRACE).into()));
                }
                (is_cancelled, self.was_cancelled) = (true, true);
                over = Some(too_slow(limits.statement));
                self.door.cancel_on_server(key).await;
                until = Instant::now() + GRACE;
                continue;
            };
            if matches!(received, Err(ServerError::Protocol(TOO_LONG))) {
                return Err(too_large(&limits));
            }
            match received? {
                Message::RowDescription(body) => rows.columns = columns(&body)?,
                Message::DataRow(row) if over.is_none() => {
                    bytes += row.buffer().len() as u64;
                    if rows.rows.len() as u64 >= limits.rows || bytes > limits.max_result {
                        over = Some(too_large(&limits));
                        rows.rows.clear();
                        (is_cancelled, self.was_cancelled) = (true, true);
                        self.door.cancel_on_server(key).await;
                        until = Instant::now() + GRACE;
                        continue;
                    }
                    rows.rows.push(values(&row)?);
                }
                Message::CommandComplete(body) => {
                    body.tag()
                        .map_err(ServerError::invalid)?
                        .clone_into(&mut rows.tag);
                }
                Message::ErrorResponse(body) => error = Some(database_error(body.fields())),
                // The statement asks for data that a message of its own has: it gets none.
                Message::CopyInResponse(_) => {
                    let mut refusal = BytesMut::new();
                    frontend::copy_fail("a statement has no data for COPY", &mut refusal)
                        .map_err(ServerError::invalid)?;
                    frontend::sync(&mut refusal);
                    connection.send(&refusal).await?;
                }
                Message::CopyData(body) => {
                    bytes += body.data().len() as u64;
                    if bytes > limits.max_result {
                        return Err(ServerError::Protocol("COPY sends too much").into());
                    }
                }
                Message::ReadyForQuery(state) => {
                    self.is_busy = false;
                    self.in_transaction = state.status() != b'I';
                    return match (over, error) {
                        (Some(over), _) => Err(over),
                        (None, Some(error)) => Err(QueryError::Database(Box::new(error))),
                        (None, None) => Ok(rows),
                    };
                }
                _ => {}
            }
        }
    }

    /// Closes the connection, and cancels what it does.
    fn close(&mut self) {
        let Some((connection, place)) = self.connection.take() else {
            return;
        };
        if self.is_busy {
            let door = Arc::clone(&self.door);
            tokio::spawn(async move {
                door.end_on_server(connection).await;
                drop(place);
            });
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.close();
    }
}

fn limit(code: &str, message: String) -> QueryError {
    QueryError::Database(Box::new(DatabaseError {
        code: code.to_owned(),
        message,
        ..DatabaseError::default()
    }))
}

fn too_large(limits: &Limits) -> QueryError {
    let (rows, most) = (limits.rows, limits.max_result);
    let why =
        format!("the result has more than the {rows} rows or {most} bytes that this grant allows");
    limit("54000", why)
}

fn too_slow(statement: Duration) -> QueryError {
    let why = format!("the statement ran longer than the {statement:?} that this grant allows");
    limit("57014", why)
}

fn columns(body: &RowDescriptionBody) -> Result<Vec<Column>, ServerError> {
    let fields = body.fields().map(|field| {
        Ok(Column {
            name: field.name().to_owned(),
            type_oid: field.type_oid(),
        })
    });
    fields.collect().map_err(ServerError::invalid)
}

fn values(row: &DataRowBody) -> Result<Vec<Option<Bytes>>, ServerError> {
    let values = row.ranges().map(|range| {
        Ok(range.map(|range| {
            let is_there = range.end <= row.buffer().len();
            if is_there {
                row.buffer_bytes().slice(range)
            } else {
                Bytes::new()
            }
        }))
    });
    values.collect().map_err(ServerError::invalid)
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
            b't' => error.table = Some(text),
            b'c' => error.column = Some(text),
            b'n' => error.constraint = Some(text),
            _ => {}
        }
    }
    error
}
