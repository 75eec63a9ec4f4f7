//! Logs in to the server.

use std::io;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::request::command;
use crate::pool::{Pooled, within};
use crate::postgres::is_quiet;
use crate::server::{GRACE, ServerError, ServerStream};
use crate::upstream::{Login, Server};

/// Longest reply to a login.
const MAX_LOGIN_REPLY: usize = 4096;

/// Commands with which a guest could read the configuration, passwords among it, and change what users may do.
const PROBES: [&[&[u8]]; 2] = [
    &[b"ACL", b"GETUSER", b"default"],
    &[b"CONFIG", b"GET", b"maxmemory"],
];

/// A connection that is logged in.
pub(crate) struct Connection {
    pub(crate) stream: ServerStream,
    /// What was read and not looked into yet.
    pub(crate) buffer: BytesMut,
}

impl Pooled for Connection {
    fn is_alive(&mut self) -> bool {
        self.buffer.is_empty() && is_quiet(&mut self.stream)
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
    let buffer = BytesMut::new();
    let mut connection = Connection { stream, buffer };
    connection.login(&server.login).await?;
    if !server.allow_superuser {
        for probe in PROBES {
            let reply = connection.ask(probe).await?;
            if !reply.starts_with("-NOPERM") {
                let [first, second, ..] = probe else { continue };
                let words = [first, second].map(|word| String::from_utf8_lossy(word));
                return Err(ServerError::Superuser(format!(
                    "it may use {}",
                    words.join(" ")
                )));
            }
        }
    }
    Ok(connection)
}

impl Connection {
    async fn login(&mut self, login: &Login) -> Result<(), ServerError> {
        let (user, password) = (login.user.as_bytes(), login.password.as_bytes());
        match (user.is_empty(), password.is_empty()) {
            (true, true) => {}
            (true, false) => self.must(&[b"AUTH", password]).await?,
            (false, _) => self.must(&[b"AUTH", user, password]).await?,
        }
        match login.database.as_str() {
            "" | "0" => Ok(()),
            database => self.must(&[b"SELECT", database.as_bytes()]).await,
        }
    }

    /// Makes the session as it was after the login. Redis has `RESET` since 6.2.
    ///
    /// # Errors
    /// When the server does not answer in time, or otherwise than with success.
    pub(crate) async fn reset(&mut self, login: &Login) -> Result<(), ServerError> {
        let reset = async {
            self.must(&[b"RESET"]).await?;
            self.login(login).await
        };
        within(GRACE, reset).await.ok_or(ServerError::Slow(GRACE))?
    }

    async fn must(&mut self, arguments: &[&[u8]]) -> Result<(), ServerError> {
        let reply = self.ask(arguments).await?;
        match reply.strip_prefix('-') {
            None => Ok(()),
            Some(error) => {
                let (code, message) = error.split_once(' ').unwrap_or((error, ""));
                Err(ServerError::Refused {
                    code: code.to_owned(),
                    message: message.to_owned(),
                })
            }
        }
    }

    /// The first line of a reply.
    async fn ask(&mut self, arguments: &[&[u8]]) -> Result<String, ServerError> {
        self.stream.write_all(&command(arguments)).await?;
        self.stream.flush().await?;
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line = self.buffer.split_to(end);
                self.buffer.advance(2);
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            if self.buffer.len() > MAX_LOGIN_REPLY {
                return Err(ServerError::Protocol("a reply to the login is too long"));
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }
}
