//! A connection to the server whose messages are read one by one: while it is logged in, reset, or used for statements
//! of the supervisor.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use fallible_iterator::FallibleIterator as _;
use postgres_protocol::message::backend::{Header, Message};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};

use crate::pool::{Pooled, within};
use crate::server::{GRACE, ServerError, ServerStream};

/// Most bytes of a message: a parameter, an error, a row of the supervisor's own queries.
const MAX_MESSAGE: usize = 64 << 10;
/// Most parameters that a server reports; PostgreSQL 18 has 16.
const MAX_PARAMETERS: usize = 64;

/// What a `CancelRequest` needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct BackendKey {
    pub(crate) process: i32,
    pub(crate) secret: i32,
}

/// A connection that is logged in.
pub(crate) struct Connection {
    pub(crate) stream: ServerStream,
    /// What was read and not looked into yet.
    pub(crate) buffer: BytesMut,
    pub(crate) key: BackendKey,
    /// What the server reported with `ParameterStatus`.
    pub(crate) parameters: BTreeMap<String, String>,
}

impl Connection {
    pub(crate) fn new(stream: ServerStream) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
            key: BackendKey {
                process: 0,
                secret: 0,
            },
            parameters: BTreeMap::new(),
        }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<(), ServerError> {
        self.stream.write_all(bytes).await?;
        Ok(self.stream.flush().await?)
    }

    /// The next message. Parameters are noted and notices are left out.
    ///
    /// # Errors
    /// When there is none, or one that is too long or cannot be read.
    pub(crate) async fn receive(&mut self) -> Result<Message, ServerError> {
        loop {
            if let Some(header) = Header::parse(&self.buffer).map_err(ServerError::invalid)?
                && usize::try_from(header.len()).is_ok_and(|length| length > MAX_MESSAGE)
            {
                return Err(ServerError::Protocol("a message is too long"));
            }
            match Message::parse(&mut self.buffer).map_err(ServerError::invalid)? {
                Some(Message::ParameterStatus(body)) => {
                    let name = body.name().map_err(ServerError::invalid)?.to_owned();
                    let value = body.value().map_err(ServerError::invalid)?.to_owned();
                    self.parameters.insert(name, value);
                    if self.parameters.len() > MAX_PARAMETERS {
                        return Err(ServerError::Protocol("too many parameters"));
                    }
                }
                Some(Message::NoticeResponse(_) | Message::NotificationResponse(_)) => {}
                Some(message) => return Ok(message),
                None => {
                    self.buffer.reserve(4096);
                    if self.stream.read_buf(&mut self.buffer).await? == 0 {
                        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                    }
                }
            }
        }
    }

    /// Runs one statement of the supervisor, and gives the columns of its rows as text.
    ///
    /// # Errors
    /// When the statement fails, or has more rows than the supervisor ever asks for.
    pub(crate) async fn simple_query(
        &mut self,
        statement: &str,
    ) -> Result<Vec<Vec<Option<String>>>, ServerError> {
        const MAX_ROWS: usize = 64;
        let mut message = BytesMut::new();
        postgres_protocol::message::frontend::query(statement, &mut message)
            .map_err(ServerError::invalid)?;
        self.send(&message).await?;
        let (mut rows, mut refused) = (Vec::new(), None);
        loop {
            match self.receive().await? {
                Message::DataRow(row) if rows.len() < MAX_ROWS => {
                    let ranges: Vec<_> = row.ranges().collect().map_err(ServerError::invalid)?;
                    let column = |range: Option<std::ops::Range<usize>>| {
                        let bytes = row.buffer().get(range?)?;
                        Some(String::from_utf8_lossy(bytes).into_owned())
                    };
                    rows.push(ranges.into_iter().map(column).collect());
                }
                Message::RowDescription(_)
                | Message::CommandComplete(_)
                | Message::EmptyQueryResponse => {}
                Message::ErrorResponse(error) => refused = Some(read_error(error.fields())),
                Message::ReadyForQuery(state) if state.status() == b'I' => {
                    return refused.map_or(Ok(rows), Err);
                }
                _ => {
                    return Err(ServerError::Protocol(
                        "the answer to a statement is another",
                    ));
                }
            }
        }
    }
}

impl Connection {
    /// Makes the session as it was after the login. What `DISCARD ALL` does is in PostgreSQL's documentation: it
    /// closes cursors and prepared statements, drops temporary tables, and ends locks, listening and settings.
    ///
    /// # Errors
    /// When the server does not answer in time, or otherwise than with success.
    pub(crate) async fn reset(&mut self) -> Result<(), ServerError> {
        let discarded = within(GRACE, self.simple_query("DISCARD ALL")).await;
        discarded.ok_or(ServerError::Slow(GRACE))?.map(drop)
    }
}

/// The code and the message of an `ErrorResponse`.
pub(crate) fn read_error(
    mut fields: postgres_protocol::message::backend::ErrorFields<'_>,
) -> ServerError {
    let (mut code, mut message) = (String::new(), String::new());
    while let Ok(Some(field)) = fields.next() {
        let text = || String::from_utf8_lossy(field.value_bytes()).into_owned();
        match field.type_() {
            b'C' => code = text(),
            b'M' => message = text(),
            _ => {}
        }
    }
    ServerError::Refused { code, message }
}

/// Whether the server keeps an idle stream open, and has sent nothing.
pub(crate) fn is_quiet(stream: &mut ServerStream) -> bool {
    let mut byte = [0];
    let mut context = Context::from_waker(Waker::noop());
    let read = Pin::new(stream.as_mut()).poll_read(&mut context, &mut ReadBuf::new(&mut byte));
    matches!(read, Poll::Pending)
}

impl Pooled for Connection {
    fn is_alive(&mut self) -> bool {
        self.buffer.is_empty() && is_quiet(&mut self.stream)
    }
}
