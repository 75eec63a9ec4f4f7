//! One connection of a guest: its commands, one after the other.

use std::time::{Duration, SystemTime};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::bson::{Document, Writer};
use super::connect::Connection;
use super::frame::{self, Message};
use super::rules::{self, Kind, Refusal};
use super::shared::Shared;
use crate::pool::{OwnerId, within};
use crate::server::{GRACE, ServerError, Socket};

/// What is read at a time.
const CHUNK: usize = 16 << 10;

/// Largest document that servers take.
const MAX_DOCUMENT: u64 = 16 << 20;

/// Largest message that servers take.
const MAX_MESSAGE: u64 = 48_000_000;

/// Documents of one command that writes, as servers have it.
const MAX_WRITES: u64 = 100_000;

/// The newest version of the protocol whose commands the rules know.
const NEWEST: i32 = 25;

/// The guest or the server went away, or broke the protocol: nothing can be said to the guest any more.
struct Gone;

/// A session of a guest.
pub(crate) struct Session<'a> {
    shared: &'a Shared,
    owner: OwnerId,
    /// What the guest sent and was not answered yet.
    buffer: BytesMut,
}

impl<'a> Session<'a> {
    pub(crate) fn new(shared: &'a Shared, owner: OwnerId) -> Self {
        Self {
            shared,
            owner,
            buffer: BytesMut::new(),
        }
    }

    /// Answers commands until one of the sides, or a limit, ends the session.
    pub(crate) async fn run(&mut self, guest: &mut impl Socket) {
        while let Ok(bytes) = self.next(guest).await {
            let Ok(answer) = self.answer(&bytes, guest).await else {
                return;
            };
            // A guest that does not read holds no connection to the server.
            let sent = within(self.shared.limits.idle, async {
                guest.write_all(&answer).await?;
                guest.flush().await
            });
            if !matches!(sent.await, Some(Ok(()))) {
                return;
            }
        }
    }

    /// The next complete message.
    async fn next(&mut self, guest: &mut impl Socket) -> Result<BytesMut, Gone> {
        let most = self.shared.limits.max_request.min(MAX_MESSAGE);
        let read = async {
            loop {
                let length = frame::length(&self.buffer).map_err(|_| Gone)?;
                match length {
                    Some(length) if length as u64 > most => {
                        tracing::debug!(length, most, "a guest's message is too large");
                        return Err(Gone);
                    }
                    Some(length) if length <= self.buffer.len() => {
                        return Ok(self.buffer.split_to(length));
                    }
                    _ => {}
                }
                self.buffer.reserve(CHUNK);
                if !matches!(guest.read_buf(&mut self.buffer).await, Ok(1..)) {
                    return Err(Gone);
                }
            }
        };
        within(self.shared.limits.idle, read).await.ok_or(Gone)?
    }

    /// The bytes that answer a message; none for one that wants no answer.
    async fn answer(&mut self, bytes: &[u8], guest: &mut impl Socket) -> Result<Vec<u8>, Gone> {
        let message = match Message::read(bytes) {
            Ok(Some(message)) => message,
            Ok(None) => return Err(Gone),
            Err(forged) => {
                // It may be no message at all: the guest gets an answer and nothing more.
                tracing::debug!(why = forged.0, "a guest's message cannot be passed on");
                let id = bytes.get(4..8).map_or(0, |mut id| id.get_i32_le());
                let refusal = Refusal::unauthorized(forged.0);
                let _ = within(
                    GRACE,
                    guest.write_all(&frame::message(0, id, &refusal.body())),
                )
                .await;
                return Err(Gone);
            }
        };
        let body = match self.command(&message, guest).await? {
            Ok(body) => body,
            Err(refusal) => refusal.body(),
        };
        Ok(match message.is_silent {
            true => Vec::new(),
            false => message.answer(&body),
        })
    }

    /// The body of an answer, or why a command is refused.
    async fn command(
        &mut self,
        message: &Message<'_>,
        guest: &mut impl Socket,
    ) -> Result<Result<Vec<u8>, Refusal>, Gone> {
        let Shared {
            commands,
            cursors,
            limits,
            server,
            ..
        } = self.shared;
        let database = server.login.database.as_str();
        // 1. Whether it may pass.
        let kind = match rules::check(message, commands, database) {
            Ok(kind) => kind,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let mut killed = Vec::new();
        match kind {
            Kind::Hello => return Ok(self.hello().await),
            Kind::EndSessions => return Ok(Ok(Writer::new().double("ok", 1.0).finish())),
            Kind::Opens(_) if cursors.left(self.owner) == 0 => {
                return Ok(Err(Refusal::unauthorized(
                    "this isolate has as many cursors open as the grant allows: close some",
                )));
            }
            Kind::GetMore { cursor, collection }
                if !cursors.has(self.owner, cursor, collection) =>
            {
                return Ok(Err(unknown_cursor(cursor)));
            }
            Kind::KillCursors {
                collection,
                cursors: numbers,
            } => {
                killed = match rules::numbers(numbers) {
                    Ok(numbers) => numbers,
                    Err(malformed) => return Ok(Err(malformed.into())),
                };
                let is_own = |cursor: &&i64| !cursors.has(self.owner, **cursor, collection);
                if let Some(other) = killed.iter().find(is_own) {
                    return Ok(Err(unknown_cursor(*other)));
                }
            }
            _ => {}
        }
        let body = match rules::rewrite(message.body, kind, limits, database) {
            Ok(body) => body,
            Err(malformed) => return Ok(Err(malformed.into())),
        };
        // 2. To the server and back, while the guest is there.
        let (mut connection, place) = match self.shared.take(self.owner).await {
            Ok(taken) => taken,
            Err(error) => return Ok(Err(unreachable_server(&error))),
        };
        let ended = place.ended();
        let asked = self.shared.ask(&mut connection, message, &body);
        let reply = tokio::select! {
            reply = asked => reply,
            () = gone(guest, &mut self.buffer) => return Err(Gone),
            () = ended.cancelled() => return Err(Gone),
        };
        let reply = match reply {
            Ok(reply) => reply,
            Err(error) => {
                tracing::warn!(%error, "a command failed");
                return Ok(Err(match error {
                    ServerError::Slow(_) => too_slow(limits.statement),
                    error => unreachable_server(&error),
                }));
            }
        };
        place.give_back(connection);
        // 3. What the guest gets of the reply, and whose cursor it has.
        let Ok((_, reply)) = frame::reply(&reply) else {
            return Err(Gone);
        };
        self.note_cursors(kind, &killed, reply);
        Ok(rules::without_server(reply).map_err(Refusal::from))
    }

    fn note_cursors(&self, kind: Kind<'_>, killed: &[i64], reply: Document<'_>) {
        let cursors = &self.shared.cursors;
        match kind {
            Kind::Opens(_) => {
                let (cursor, database) =
                    (rules::cursor_of(reply), &self.shared.server.login.database);
                if let (1.. | ..=-1, Some(collection)) =
                    (cursor, rules::collection_of(reply, database))
                {
                    cursors.opened(self.owner, cursor, collection);
                }
            }
            Kind::GetMore { cursor, .. } if rules::cursor_of(reply) == 0 => {
                cursors.closed(self.owner, cursor);
            }
            Kind::KillCursors { .. } => {
                for cursor in killed {
                    cursors.closed(self.owner, *cursor);
                }
            }
            _ => {}
        }
    }

    /// The answer to `hello`: a single server without authentication, sessions and compression, whatever it is.
    async fn hello(&self) -> Result<Vec<u8>, Refusal> {
        let versions = self.shared.versions(self.owner).await;
        let (from, to) = versions.map_err(|error| unreachable_server(&error))?;
        let limits = &self.shared.limits;
        let number = |number: u64| i32::try_from(number).unwrap_or(i32::MAX);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.map_or(0, |now| i64::try_from(now.as_millis()).unwrap_or(i64::MAX));
        Ok(Writer::new()
            .boolean("helloOk", true)
            .boolean("isWritablePrimary", true)
            .boolean("ismaster", true)
            .int32(
                "maxBsonObjectSize",
                number(limits.max_request.min(MAX_DOCUMENT)),
            )
            .int32(
                "maxMessageSizeBytes",
                number(limits.max_request.min(MAX_MESSAGE)),
            )
            .int32("maxWriteBatchSize", number(limits.rows.min(MAX_WRITES)))
            .date("localTime", now)
            .int32("connectionId", 1)
            .int32("minWireVersion", from)
            .int32("maxWireVersion", to.min(NEWEST))
            .boolean("readOnly", false)
            .double("ok", 1.0)
            .finish())
    }
}

impl Shared {
    /// Sends a command and reads its reply, in the time that a command may take.
    async fn ask(
        &self,
        connection: &mut Connection,
        message: &Message<'_>,
        body: &[u8],
    ) -> Result<BytesMut, ServerError> {
        let id = connection.id();
        let most = usize::try_from(self.limits.max_result).unwrap_or(usize::MAX);
        let asked = async {
            connection.send(&message.request(id, body)).await?;
            connection.receive(id, most).await
        };
        // The server ends it by itself, a little earlier.
        let limit = self.limits.statement + GRACE;
        within(limit, asked).await.ok_or(ServerError::Slow(limit))?
    }
}

/// Returns when the guest goes away. What it sends meanwhile is kept, as much as is read at a time.
async fn gone(guest: &mut impl Socket, buffer: &mut BytesMut) {
    while buffer.len() < CHUNK {
        buffer.reserve(CHUNK);
        if !matches!(guest.read_buf(buffer).await, Ok(1..)) {
            return;
        }
    }
    std::future::pending().await
}

fn unknown_cursor(cursor: i64) -> Refusal {
    Refusal {
        code: 43,
        name: "CursorNotFound",
        message: format!("cursor id {cursor} not found"),
    }
}

fn too_slow(limit: Duration) -> Refusal {
    Refusal {
        code: 50,
        name: "MaxTimeMSExpired",
        message: format!("a command took longer than the {limit:?} that this grant allows"),
    }
}

fn unreachable_server(error: &ServerError) -> Refusal {
    Refusal {
        code: 6,
        name: "HostUnreachable",
        message: error.for_guest(),
    }
}
