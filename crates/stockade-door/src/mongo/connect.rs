//! Logs in to the server.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::bson::{Document, Element, Malformed, Writer};
use super::frame::{self, HEADER};
use super::scram::Scram;
use super::server::Server;
use crate::pool::Pooled;
use crate::postgres::is_quiet;
use crate::server::{ServerError, ServerStream};

/// Longest reply to a login.
const MAX_LOGIN_REPLY: usize = 1 << 20;

/// Roles with which a user may change what users may do.
const RIGHTS: [&str; 2] = ["dbOwner", "userAdmin"];

/// A connection that is logged in.
pub(crate) struct Connection {
    stream: ServerStream,
    next: i32,
    /// Whether the server owes nothing.
    is_clean: bool,
    /// The versions of the protocol that the server speaks.
    pub(crate) versions: (i32, i32),
}

impl Pooled for Connection {
    fn is_alive(&mut self) -> bool {
        self.is_clean && is_quiet(&mut self.stream)
    }
}

/// Connects, logs in, and checks what the user may do.
///
/// # Errors
/// When the server cannot be reached or refuses, or the user may do too much.
pub(crate) async fn connect(server: &Server) -> Result<Connection, ServerError> {
    let mut stream = server.dial.dial().await?;
    if let Some(tls) = &server.tls {
        stream = tls.start(stream).await?.0;
    }
    let mut connection = Connection {
        stream,
        next: 1,
        is_clean: true,
        versions: (0, 0),
    };
    let hello = Writer::new()
        .int32("hello", 1)
        .text("$db", "admin")
        .finish();
    let reply = connection.ask(&hello).await?;
    let version = |name| {
        let version = Document::at(&reply).ok()?.get(name)?.integer()?;
        i32::try_from(version).ok()
    };
    let (Some(from), Some(to)) = (version("minWireVersion"), version("maxWireVersion")) else {
        return Err(ServerError::Protocol("it did not answer hello"));
    };
    connection.versions = (from, to);
    if server.login.user.is_empty() {
        if !server.allow_superuser {
            let why = "there is none, and a server without logins allows everything";
            return Err(ServerError::Superuser(why.to_owned()));
        }
        return Ok(connection);
    }
    connection.login(server).await?;
    if !server.allow_superuser {
        connection.check_roles(&server.login.database).await?;
    }
    Ok(connection)
}

impl Connection {
    async fn login(&mut self, server: &Server) -> Result<(), ServerError> {
        let (mut scram, first) = Scram::new(&server.login)?;
        // Saves a message without content at the end.
        let options = Writer::new().boolean("skipEmptyExchange", true).finish();
        let start = Writer::new()
            .int32("saslStart", 1)
            .text("mechanism", "SCRAM-SHA-256")
            .binary("payload", first.as_bytes())
            .document("options", &options)
            .text("$db", &server.auth_source)
            .finish();
        let mut step = self.step(&start).await?;
        let second = scram.answer(&server.login.password, &step.payload)?;
        let go_on = |step: &Step, payload: &str| {
            Writer::new()
                .int32("saslContinue", 1)
                .raw(step.login.0, "conversationId", &step.login.1)
                .binary("payload", payload.as_bytes())
                .text("$db", &server.auth_source)
                .finish()
        };
        step = self.step(&go_on(&step, &second)).await?;
        scram.finish(&step.payload)?;
        if !step.is_done {
            step = self.step(&go_on(&step, "")).await?;
        }
        if step.is_done {
            Ok(())
        } else {
            Err(ServerError::Protocol("its login has no end"))
        }
    }

    /// One step of the login.
    async fn step(&mut self, body: &[u8]) -> Result<Step, ServerError> {
        let reply = self.must(body).await?;
        let wrong = ServerError::Protocol("its login is not one of SCRAM-SHA-256");
        let document = Document::at(&reply).map_err(broken)?;
        let (Some(payload), Some(id)) = (document.get("payload"), document.get("conversationId"))
        else {
            return Err(wrong);
        };
        let payload = match (payload.kind, payload.value) {
            // Bytes: their length, the subtype.
            (0x05, [_, _, _, _, 0, payload @ ..]) => String::from_utf8(payload.to_vec()),
            _ => return Err(wrong),
        };
        Ok(Step {
            payload: payload.map_err(|_| wrong)?,
            login: (id.kind, id.value.to_vec()),
            is_done: document.get("done").is_some_and(|done| done.is_true()),
        })
    }

    /// Every role must be one of the database of the grant, and none may change what users may do.
    async fn check_roles(&mut self, database: &str) -> Result<(), ServerError> {
        let body = Writer::new()
            .int32("connectionStatus", 1)
            .text("$db", database)
            .finish();
        let reply = self.must(&body).await?;
        let wrong = || ServerError::Protocol("it does not say which roles its user has");
        let roles = Document::at(&reply)
            .map_err(broken)?
            .get("authInfo")
            .and_then(|info| info.document()?.get("authenticatedUserRoles")?.document())
            .ok_or_else(wrong)?;
        for role in roles.elements() {
            let role = role.map_err(broken)?.document().ok_or_else(wrong)?;
            let text = |name| role.get(name).and_then(|one: Element<'_>| one.text());
            let (name, of) = (
                text("role").ok_or_else(wrong)?,
                text("db").ok_or_else(wrong)?,
            );
            if of != database || RIGHTS.contains(&name) {
                return Err(ServerError::Superuser(format!(
                    "it has the role {name} of {of}"
                )));
            }
        }
        Ok(())
    }

    /// The body of a reply that is a success.
    pub(crate) async fn must(&mut self, body: &[u8]) -> Result<Vec<u8>, ServerError> {
        let reply = self.ask(body).await?;
        let document = Document::at(&reply).map_err(broken)?;
        if document.get("ok").is_some_and(|ok| ok.is_true()) {
            return Ok(reply);
        }
        let text = |name| {
            document
                .get(name)
                .and_then(|one| one.text().map(str::to_owned))
        };
        Err(ServerError::Refused {
            code: text("codeName").unwrap_or_default(),
            message: text("errmsg").unwrap_or_default(),
        })
    }

    /// The body of a reply to a command of ours.
    async fn ask(&mut self, body: &[u8]) -> Result<Vec<u8>, ServerError> {
        let id = self.id();
        self.send(&frame::message(id, 0, body)).await?;
        let reply = self.receive(id, MAX_LOGIN_REPLY).await?;
        let (_, body) = frame::reply(&reply).map_err(broken)?;
        Ok(body.bytes().to_vec())
    }

    /// The number of the next request.
    pub(crate) fn id(&mut self) -> i32 {
        let id = self.next;
        self.next = self.next.wrapping_add(1).max(1);
        id
    }

    /// Sends a message. From here on the server owes a reply.
    pub(crate) async fn send(&mut self, message: &[u8]) -> io::Result<()> {
        self.is_clean = false;
        self.stream.write_all(message).await?;
        self.stream.flush().await
    }

    /// The reply to a request, of at most `most` bytes.
    pub(crate) async fn receive(&mut self, id: i32, most: usize) -> Result<BytesMut, ServerError> {
        let mut buffer = BytesMut::new();
        let length = loop {
            let length = frame::length(&buffer);
            let length = length.map_err(|_| ServerError::Protocol("a reply has no length"))?;
            if length.is_some_and(|length| length > most) {
                return Err(ServerError::Protocol("a reply is larger than it may be"));
            }
            // As much as arrives is kept, and nothing of a next reply is read.
            let missing = length.unwrap_or(HEADER).saturating_sub(buffer.len());
            if missing == 0 {
                break length.unwrap_or(HEADER);
            }
            let mut part = (&mut self.stream).take(missing as u64);
            if part.read_buf(&mut buffer).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        };
        let (to, _) = frame::reply(&buffer[..length]).map_err(broken)?;
        if to != id {
            return Err(ServerError::Protocol("a reply is to another request"));
        }
        self.is_clean = true;
        Ok(buffer)
    }
}

struct Step {
    payload: String,
    /// As the server gave it: its type, and its value.
    login: (u8, Vec<u8>),
    is_done: bool,
}

fn broken(Malformed: Malformed) -> ServerError {
    ServerError::Protocol("a reply cannot be read")
}
