//! Logs in to the server, and runs statements of the supervisor.

use bytes::BytesMut;
use tokio::io::AsyncWriteExt as _;

use super::auth::{Plugin, clear, encrypted};
use super::greeting::Greeting;
use super::packet::{Parts, packet, read_error, receive};
use crate::pool::{Pooled, within};
use crate::postgres::is_quiet;
use crate::server::{GRACE, ServerError, ServerStream};
use crate::upstream::Server;

/// Most bytes of a packet that is not passed on.
const MAX_PACKET: usize = 64 << 10;
/// Most packets of a login, a definition of columns, or rows of the supervisor's own statements.
const MAX_PACKETS: usize = 256;

const COM_INIT_DB: u8 = 2;
const COM_QUERY: u8 = 3;
const COM_RESET_CONNECTION: u8 = 0x1f;

/// Rights with which a guest could read the server's files, end others' work or make users.
const PRIVILEGES: [&str; 11] = [
    "ALL PRIVILEGES",
    "FILE",
    "SUPER",
    "SHUTDOWN",
    "CREATE USER",
    "SET USER",
    "SET_USER_ID",
    "SET_ANY_DEFINER",
    "CONNECTION ADMIN",
    "CONNECTION_ADMIN",
    "ROLE_ADMIN",
];

/// A connection that is logged in.
pub(crate) struct Connection {
    pub(crate) stream: ServerStream,
    /// What was read and not looked into yet.
    pub(crate) buffer: BytesMut,
    /// The server's greeting.
    pub(crate) greeting: Greeting,
    /// What was chosen of the guest's choice.
    pub(crate) choice: u32,
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
pub(crate) async fn connect(server: &Server, choice: u32) -> Result<Connection, ServerError> {
    let mut connection = login(server, choice).await?;
    if !server.allow_superuser {
        privileges(&mut connection).await?;
    }
    connection.statement("SET NAMES utf8mb4").await?;
    Ok(connection)
}

/// Ends the statement of a thread, or its connection.
///
/// # Errors
/// When the server cannot be reached or refuses.
pub(crate) async fn kill(server: &Server, what: &str, thread: u32) -> Result<(), ServerError> {
    let mut connection = login(server, 0).await?;
    let statement = format!("KILL {what} {thread}");
    connection.statement(&statement).await.map(drop)
}

async fn login(server: &Server, choice: u32) -> Result<Connection, ServerError> {
    // 1. The greeting, and TLS.
    let (mut stream, mut buffer) = (server.dial.dial().await?, BytesMut::new());
    let (_, payload) = receive(&mut buffer, &mut stream, MAX_PACKET).await?;
    if payload.first() == Some(&0xff) {
        return Err(read_error(&payload));
    }
    let greeting = Greeting::parse(&payload).filter(Greeting::is_usable);
    let greeting = greeting.ok_or(ServerError::Protocol(
        "the greeting is not one of MySQL 5.7, MariaDB 10.2 or later",
    ))?;
    let has_database = !server.login.database.is_empty();
    let mut request = greeting.request(choice, has_database, server.tls.is_some());
    let mut sequence = 1;
    if let Some(tls) = &server.tls {
        if !greeting.has_tls() || !buffer.is_empty() {
            return Err(ServerError::Tls(
                "the server has no TLS: turn it on there, or set tls: off".to_owned(),
            ));
        }
        stream.write_all(&packet(sequence, &request)).await?;
        stream.flush().await?;
        stream = tls.start(stream).await?.0;
        sequence += 1;
    }
    // 2. The answer to the greeting.
    let plugin = Plugin::named(&greeting.plugin).filter(|plugin| *plugin != Plugin::ClearText);
    let plugin = plugin.unwrap_or(Plugin::Native);
    let response = plugin.response(&server.login.password, &greeting.salt);
    request.extend(server.login.user.bytes().filter(|byte| *byte != 0));
    request.push(0);
    request.push(u8::try_from(response.len()).unwrap_or(0));
    request.extend(response);
    if has_database {
        request.extend(server.login.database.bytes().filter(|byte| *byte != 0));
        request.push(0);
    }
    request.extend(plugin.name().as_bytes());
    request.push(0);
    stream.write_all(&packet(sequence, &request)).await?;
    stream.flush().await?;
    let salt = greeting.salt.clone();
    let mut connection = Connection {
        stream,
        buffer,
        greeting,
        choice,
    };
    connection.authenticate(server, plugin, salt).await?;
    Ok(connection)
}

impl Connection {
    async fn receive(&mut self) -> Result<(u8, BytesMut), ServerError> {
        receive(&mut self.buffer, &mut self.stream, MAX_PACKET).await
    }

    async fn send(&mut self, sequence: u8, payload: &[u8]) -> Result<(), ServerError> {
        self.stream.write_all(&packet(sequence, payload)).await?;
        Ok(self.stream.flush().await?)
    }

    /// Answers the server until it has accepted the login.
    async fn authenticate(
        &mut self,
        server: &Server,
        mut plugin: Plugin,
        mut salt: Vec<u8>,
    ) -> Result<(), ServerError> {
        let password = &server.login.password;
        for _ in 0..8 {
            let (sequence, payload) = self.receive().await?;
            let answer = match &payload[..] {
                [0, ..] => return Ok(()),
                [0xff, ..] => return Err(read_error(&payload)),
                // AuthSwitchRequest
                [0xfe, rest @ ..] => {
                    let mut parts = Parts(rest);
                    let name = parts.text().unwrap_or_default();
                    let method = || ServerError::Method(String::from_utf8_lossy(name).into_owned());
                    plugin = Plugin::named(name).ok_or_else(method)?;
                    if plugin == Plugin::ClearText && server.tls.is_none() {
                        return Err(method());
                    }
                    salt = parts.0.strip_suffix(&[0]).unwrap_or(parts.0).to_vec();
                    plugin.response(password, &salt)
                }
                // AuthMoreData of caching_sha2_password: the server knows the password already,
                [1, 3] if plugin == Plugin::CachingSha2 => continue,
                // or wants it itself,
                [1, 4] if plugin == Plugin::CachingSha2 && server.tls.is_some() => clear(password),
                // for which it has a public key.
                [1, 4] if plugin == Plugin::CachingSha2 => vec![2],
                [1, pem @ ..] if plugin == Plugin::CachingSha2 && server.tls.is_none() => {
                    encrypted(password, &salt, pem)?
                }
                _ => return Err(ServerError::Protocol("the login went otherwise")),
            };
            self.send(sequence.wrapping_add(1), &answer).await?;
        }
        Err(ServerError::Protocol("the login does not end"))
    }

    /// Runs one statement of the supervisor, and gives the columns of its rows as text.
    ///
    /// # Errors
    /// When it fails, or has more rows than the supervisor ever asks for.
    pub(crate) async fn statement(
        &mut self,
        statement: &str,
    ) -> Result<Vec<Vec<String>>, ServerError> {
        self.command(COM_QUERY, statement.as_bytes()).await
    }

    async fn command(&mut self, command: u8, text: &[u8]) -> Result<Vec<Vec<String>>, ServerError> {
        self.send(0, &[&[command], text].concat()).await?;
        let (_, first) = self.receive().await?;
        match first.first() {
            Some(0) => return Ok(Vec::new()),
            Some(0xff) => return Err(read_error(&first)),
            _ => {}
        }
        let mut rows = Vec::new();
        let mut ends = 0;
        for _ in 0..MAX_PACKETS {
            let (_, payload) = self.receive().await?;
            match payload.first() {
                Some(0xff) => return Err(read_error(&payload)),
                Some(0xfe) if payload.len() < 9 && ends == 1 => return Ok(rows),
                Some(0xfe) if payload.len() < 9 => ends = 1,
                _ if ends == 0 => {}
                _ => {
                    let mut parts = Parts(&payload);
                    let mut row = Vec::new();
                    while let Some(length) = parts.number() {
                        let value = parts.take(usize::try_from(length).unwrap_or(usize::MAX));
                        row.push(String::from_utf8_lossy(value.unwrap_or_default()).into_owned());
                    }
                    rows.push(row);
                }
            }
        }
        Err(ServerError::Protocol(
            "an answer to the supervisor does not end",
        ))
    }

    /// Makes the session as it was after the login: open transactions, prepared statements, temporary tables, locks
    /// and variables are gone.
    ///
    /// # Errors
    /// When the server does not answer in time, or otherwise than with success.
    pub(crate) async fn reset(&mut self, database: &str) -> Result<(), ServerError> {
        let reset = async {
            self.command(COM_RESET_CONNECTION, b"").await?;
            self.command(COM_INIT_DB, database.as_bytes()).await?;
            self.statement("SET NAMES utf8mb4").await.map(drop)
        };
        within(GRACE, reset).await.ok_or(ServerError::Slow(GRACE))?
    }
}

/// Checks what the user and its roles may do.
async fn privileges(connection: &mut Connection) -> Result<(), ServerError> {
    let mut grants = connection.statement("SHOW GRANTS").await?;
    let roles: Vec<String> = grants
        .iter()
        .flatten()
        .filter_map(|grant| role(grant))
        .collect();
    for role in roles {
        let of_role = connection
            .statement(&format!("SHOW GRANTS FOR {role}"))
            .await;
        let of_role = of_role.map_err(|_| {
            ServerError::Superuser(format!("the rights of its role {role} cannot be read"))
        })?;
        grants.extend(of_role);
    }
    match grants.iter().flatten().find_map(|grant| excessive(grant)) {
        Some(privilege) => Err(ServerError::Superuser(format!("it has {privilege} ON *.*"))),
        None => Ok(()),
    }
}

/// The role that a line of `SHOW GRANTS` gives, as it is written there: `` GRANT `writer`@`%` TO `app`@`%` ``.
fn role(grant: &str) -> Option<String> {
    let (role, _) = grant.strip_prefix("GRANT ")?.split_once(" TO ")?;
    (!role.contains(" ON ") && role.starts_with(['`', '\''])).then(|| role.to_owned())
}

/// The right of a line of `SHOW GRANTS` that no guest should have.
fn excessive(grant: &str) -> Option<&'static str> {
    let (rights, _) = grant.strip_prefix("GRANT ")?.split_once(" ON *.* TO ")?;
    let mut rights = rights.split(',').map(str::trim);
    rights.find_map(|right| PRIVILEGES.into_iter().find(|privilege| *privilege == right))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_read_from_lines_of_grants() {
        let line = "GRANT SELECT, FILE ON *.* TO `app`@`%` IDENTIFIED BY PASSWORD '*A'";
        assert_eq!(excessive(line), Some("FILE"));
        assert_eq!(
            excessive("GRANT ALL PRIVILEGES ON *.* TO `a`@`%`"),
            Some("ALL PRIVILEGES")
        );
        assert_eq!(
            excessive("GRANT ALL PRIVILEGES ON `shop`.* TO `a`@`%`"),
            None
        );
        assert_eq!(excessive("GRANT USAGE ON *.* TO `a`@`%`"), None);
        assert_eq!(
            role("GRANT `writer`@`%` TO `app`@`%`").as_deref(),
            Some("`writer`@`%`")
        );
        assert_eq!(
            role("GRANT `writer` TO `app`@`%`").as_deref(),
            Some("`writer`")
        );
        assert_eq!(role(line), None);
    }
}
