//! Logs in to the server.

use bytes::BytesMut;
use fallible_iterator::FallibleIterator as _;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{
    ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};
use postgres_protocol::message::backend::{AuthenticationSaslBody, Message};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::spawn_blocking;

use super::wire::{BackendKey, Connection, read_error};
use crate::server::{ServerError, ServerStream};
use crate::upstream::Server;

/// Most rounds of SCRAM's key derivation, which cost this process CPU time. PostgreSQL's default is 4,096.
const MAX_ITERATIONS: u32 = 1_000_000;

/// What makes a role too powerful for a guest: `COPY … FROM PROGRAM` runs a shell command on the server, and the other
/// roles read and write its files. Before PostgreSQL 16, `CREATEROLE` may grant itself these.
const PRIVILEGES: &str = "select string_agg(r.rolname::text, ', ') from pg_catalog.pg_roles r \
    where (r.rolsuper or r.rolname operator(pg_catalog.=) any (array['pg_execute_server_program', \
    'pg_read_server_files', 'pg_write_server_files']) or (r.rolcreaterole and \
    pg_catalog.current_setting('server_version_num')::pg_catalog.int4 operator(pg_catalog.<) 160000)) \
    and pg_catalog.pg_has_role(current_user, r.oid, 'MEMBER')";

/// Connects, logs in, and checks what the role may do.
///
/// # Errors
/// When the server cannot be reached or refuses, or the role may do too much.
pub(crate) async fn connect(
    server: &Server,
    application_name: &str,
) -> Result<Connection, ServerError> {
    let mut connection = login(server, application_name).await?;
    if !server.allow_superuser {
        let rows = connection.simple_query(PRIVILEGES).await?;
        if let Some(Some(roles)) = rows.into_iter().flatten().next() {
            return Err(ServerError::Superuser(format!(
                "it has the rights of {roles}"
            )));
        }
    }
    Ok(connection)
}

/// Ends the server's process for a connection: a statement may catch its cancellation, and nothing can catch this.
///
/// # Errors
/// When the server cannot be reached or refuses.
pub(crate) async fn terminate(
    server: &Server,
    application_name: &str,
    key: BackendKey,
) -> Result<(), ServerError> {
    let statement = format!("select pg_catalog.pg_terminate_backend({})", key.process);
    let mut connection = login(server, application_name).await?;
    connection.simple_query(&statement).await.map(drop)
}

async fn login(server: &Server, application_name: &str) -> Result<Connection, ServerError> {
    let (stream, end_point) = dial(server).await?;
    let mut connection = Connection::new(stream);
    let login = &server.login;
    let parameters = [
        ("user", login.user.as_str()),
        ("database", &login.database),
        ("application_name", application_name),
        ("client_encoding", "UTF8"),
    ];
    let mut message = BytesMut::new();
    frontend::startup_message(parameters, &mut message).map_err(ServerError::invalid)?;
    connection.send(&message).await?;
    authenticate(&mut connection, server, end_point).await?;
    loop {
        match connection.receive().await? {
            Message::BackendKeyData(key) => {
                connection.key = BackendKey {
                    process: key.process_id(),
                    secret: key.secret_key(),
                };
            }
            Message::ReadyForQuery(_) => break,
            Message::ErrorResponse(error) => return Err(read_error(error.fields())),
            _ => return Err(ServerError::Protocol("the login ended otherwise")),
        }
    }
    Ok(connection)
}

/// Asks the server to cancel what a connection does. Returns when the server has passed the request on.
pub(crate) async fn cancel(server: &Server, key: BackendKey) -> Result<(), ServerError> {
    let (mut stream, _) = dial(server).await?;
    let mut message = BytesMut::new();
    frontend::cancel_request(key.process, key.secret, &mut message);
    stream.write_all(&message).await?;
    stream.flush().await?;
    // The server answers by closing the connection.
    let mut byte = [0];
    let _ = stream.read(&mut byte).await;
    Ok(())
}

async fn dial(server: &Server) -> Result<(ServerStream, Option<Vec<u8>>), ServerError> {
    let mut stream = server.dial.dial().await?;
    let Some(tls) = &server.tls else {
        return Ok((stream, None));
    };
    let mut message = BytesMut::new();
    frontend::ssl_request(&mut message);
    stream.write_all(&message).await?;
    stream.flush().await?;
    // One byte exactly: what else there is was not sent by the server that TLS proves (CVE-2021-23222).
    match stream.read_u8().await? {
        b'S' => tls.start(stream).await,
        _ => Err(ServerError::Tls(
            "the server has no TLS: turn it on there, or set tls: off".to_owned(),
        )),
    }
}

async fn authenticate(
    connection: &mut Connection,
    server: &Server,
    end_point: Option<Vec<u8>>,
) -> Result<(), ServerError> {
    let (user, password) = (&server.login.user, &server.login.password);
    let mut message = BytesMut::new();
    match connection.receive().await? {
        Message::AuthenticationOk => return Ok(()),
        Message::AuthenticationCleartextPassword if server.tls.is_some() => {
            frontend::password_message(password.as_bytes(), &mut message)
        }
        Message::AuthenticationCleartextPassword => {
            let method = "the password in clear text, without TLS";
            return Err(ServerError::Method(method.to_owned()));
        }
        Message::AuthenticationMd5Password(body) => {
            let hash = md5_hash(user.as_bytes(), password.as_bytes(), body.salt());
            frontend::password_message(hash.as_bytes(), &mut message)
        }
        Message::AuthenticationSasl(body) => {
            return scram(connection, &body, password, end_point).await;
        }
        Message::ErrorResponse(error) => return Err(read_error(error.fields())),
        _ => return Err(ServerError::Method("GSSAPI, SSPI or another".to_owned())),
    }
    .map_err(ServerError::invalid)?;
    connection.send(&message).await?;
    accepted(connection).await
}

async fn accepted(connection: &mut Connection) -> Result<(), ServerError> {
    match connection.receive().await? {
        Message::AuthenticationOk => Ok(()),
        Message::ErrorResponse(error) => Err(read_error(error.fields())),
        _ => Err(ServerError::Protocol("the login ended otherwise")),
    }
}

/// SCRAM, RFC 5802 and RFC 7677, bound to the TLS connection where the server can do that.
async fn scram(
    connection: &mut Connection,
    body: &AuthenticationSaslBody,
    password: &str,
    end_point: Option<Vec<u8>>,
) -> Result<(), ServerError> {
    let mut mechanisms = body.mechanisms();
    let (mut has_plain, mut has_plus) = (false, false);
    while let Some(mechanism) = mechanisms.next().map_err(ServerError::invalid)? {
        has_plain |= mechanism == SCRAM_SHA_256;
        has_plus |= mechanism == SCRAM_SHA_256_PLUS;
    }
    let (mechanism, binding) = match end_point {
        Some(hash) if has_plus => (
            SCRAM_SHA_256_PLUS,
            ChannelBinding::tls_server_end_point(hash),
        ),
        Some(_) if has_plain => (SCRAM_SHA_256, ChannelBinding::unrequested()),
        None if has_plain => (SCRAM_SHA_256, ChannelBinding::unsupported()),
        _ => return Err(ServerError::Method("SASL without SCRAM-SHA-256".to_owned())),
    };
    // 1. The client's first message.
    let mut scram = ScramSha256::new(password.as_bytes(), binding);
    let mut message = BytesMut::new();
    frontend::sasl_initial_response(mechanism, scram.message(), &mut message)
        .map_err(ServerError::invalid)?;
    connection.send(&message).await?;
    let first = match connection.receive().await? {
        Message::AuthenticationSaslContinue(body) => body.data().to_vec(),
        Message::ErrorResponse(error) => return Err(read_error(error.fields())),
        _ => return Err(ServerError::Protocol("SCRAM went otherwise")),
    };
    // 2. The proof, which takes some milliseconds of CPU time.
    if iterations(&first).is_none_or(|count| count > MAX_ITERATIONS) {
        return Err(ServerError::Protocol("SCRAM asks for too many iterations"));
    }
    let proof = spawn_blocking(move || scram.update(&first).map(|()| scram)).await;
    let mut scram = proof
        .map_err(|_| ServerError::Protocol("SCRAM failed"))?
        .map_err(|_| ServerError::Protocol("SCRAM's first message cannot be read"))?;
    message.clear();
    frontend::sasl_response(scram.message(), &mut message).map_err(ServerError::invalid)?;
    connection.send(&message).await?;
    // 3. The server's proof.
    match connection.receive().await? {
        Message::AuthenticationSaslFinal(body) => scram
            .finish(body.data())
            .map_err(|_| ServerError::Protocol("the server does not know the password"))?,
        Message::ErrorResponse(error) => return Err(read_error(error.fields())),
        _ => return Err(ServerError::Protocol("SCRAM went otherwise")),
    }
    accepted(connection).await
}

/// The count of iterations in SCRAM's server-first-message, `r=…,s=…,i=4096`.
fn iterations(message: &[u8]) -> Option<u32> {
    let attribute = message
        .split(|byte| *byte == b',')
        .find_map(|attribute| attribute.strip_prefix(b"i="))?;
    str::from_utf8(attribute).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iterations_are_those_of_the_first_message() {
        assert_eq!(iterations(b"r=i=,s=abc,i=4096"), Some(4096));
        for message in [&b"r=a,s=b"[..], b"i=", b"i=-1", b"i=99999999999", b"i=\xff"] {
            assert_eq!(iterations(message), None);
        }
    }
}
