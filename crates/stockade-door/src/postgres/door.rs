//! One grant's door, and its sessions.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::rand;
use bytes::{BufMut, BytesMut};
use parking_lot::Mutex;
use postgres_protocol::message::frontend;
use tokio::io::AsyncWriteExt as _;

use super::connect::{cancel, connect, terminate};
use super::error_response::ErrorResponse;
use super::session::{Ended, Session};
use super::startup::{Startup, startup};
use super::wire::{BackendKey, Connection};
use crate::limits::{Limits, PoolLimits};
use crate::pool::{OwnerId, Place, Pool, PoolUse, within};
use crate::server::{GRACE, ServerError, Socket};
use crate::upstream::Server;

/// The door of one grant.
pub struct Door {
    server: Server,
    /// What the server's administrator sees in `pg_stat_activity`.
    application_name: String,
    limits: Limits,
    pool: Arc<Pool<Connection>>,
    /// The sessions whose statements can be cancelled: by their owner and the key that the guest was given.
    keys: Mutex<HashMap<(OwnerId, [u8; 8]), BackendKey>>,
}

impl Door {
    /// A door to `server`, whose administrator sees `application_name`. Nothing is connected yet.
    #[must_use]
    pub fn new(server: Server, application_name: String, limits: Limits, pool: PoolLimits) -> Self {
        Self {
            server,
            application_name,
            limits,
            pool: Arc::new(Pool::new(pool)),
            keys: Mutex::new(HashMap::new()),
        }
    }

    /// Logs in once.
    ///
    /// # Errors
    /// When that fails, or the role may do too much.
    pub async fn check(&self) -> Result<(), ServerError> {
        connect(&self.server, &self.application_name)
            .await
            .map(drop)
    }

    /// What the connections are used for.
    #[must_use]
    pub fn usage(&self) -> PoolUse {
        self.pool.usage()
    }

    /// Ends all sessions of an owner.
    pub fn ended(&self, owner: OwnerId) {
        self.pool.ended(owner);
    }

    /// Serves one stream of a guest until it ends.
    pub async fn serve(&self, owner: OwnerId, mut guest: impl Socket) {
        let farewell = match startup(&mut guest).await {
            Ok(Some(Startup::Session {
                settings,
                negotiate,
            })) => {
                let opened = self.open(owner, &mut guest, &settings, negotiate).await;
                opened.err()
            }
            Ok(Some(Startup::Cancel(key))) => {
                self.cancel(owner, key).await;
                None
            }
            Ok(None) => None,
            Err(error) => Some(error),
        };
        if let Some(error) = farewell {
            say(&mut guest, &error).await;
        }
        let _ = within(GRACE, guest.shutdown()).await;
    }

    /// Passes a guest's cancellation on, if the key is that of a session of the same owner.
    async fn cancel(&self, owner: OwnerId, key: [u8; 8]) {
        let key = self.keys.lock().get(&(owner, key)).copied();
        if let Some(key) = key
            && self.pool.attempt().is_ok()
        {
            self.cancel_on_server(key).await;
        }
    }

    async fn cancel_on_server(&self, key: BackendKey) {
        match within(GRACE, cancel(&self.server, key)).await {
            Some(Ok(())) => {}
            Some(Err(error)) => tracing::warn!(%error, "a statement was not cancelled"),
            None => tracing::warn!("a statement was not cancelled within {GRACE:?}"),
        }
    }

    /// Serves a session.
    async fn open(
        &self,
        owner: OwnerId,
        guest: &mut impl Socket,
        settings: &[(String, String)],
        negotiate: Option<Vec<String>>,
    ) -> Result<(), ErrorResponse> {
        // 1. A connection, with the settings that the guest wants.
        let taken = self.take(owner).await;
        let (mut connection, place) = taken.map_err(|error| {
            tracing::warn!(%error, "no connection for a session");
            let code = match &error {
                ServerError::Full(_) => "53300",
                ServerError::Refused { .. }
                | ServerError::Method(_)
                | ServerError::Superuser(_) => "28000",
                _ => "08006",
            };
            ErrorResponse::fatal(code, error.for_guest())
        })?;
        apply(&mut connection, settings).await?;
        // 2. The guest is logged in, and gets a key of its own for cancellations.
        let mut secret = [0; 8];
        rand::fill(&mut secret).map_err(|_| ErrorResponse::fatal("XX000", "no random numbers"))?;
        let greeting = greeting(&connection, secret, negotiate);
        let key = Registered::new(self, owner, secret, connection.key);
        let ended = place.ended();
        let mut session = Session::new(&self.limits, connection);
        let outcome = if guest.write_all(&greeting).await.is_err() {
            Ended::Gone
        } else {
            let backend = key.backend;
            let cancel = || self.cancel_on_server(backend);
            tokio::select! {
                outcome = session.run(guest, cancel) => outcome,
                () = ended.cancelled() => Ended::Gone,
            }
        };
        drop(key);
        // 3. What the guest learns, if a limit ended the session.
        let is_at_boundary = session.is_guest_at_boundary();
        let farewell = async {
            if let Ended::By(error) = outcome
                && is_at_boundary
            {
                say(guest, &error).await;
            }
            let _ = within(GRACE, guest.shutdown()).await;
        };
        tokio::join!(self.finish(session, place), farewell);
        Ok(())
    }

    async fn take(&self, owner: OwnerId) -> Result<(Connection, Place<Connection>), ServerError> {
        let connect = connect(&self.server, &self.application_name);
        self.pool.take(owner, |_| true, connect).await
    }

    /// Ends what a connection does on the server, which does not notice a closed connection while a statement runs. The
    /// connection stays open meanwhile, so that its process has no successor of the same number.
    async fn end_on_server(&self, connection: Connection) {
        self.cancel_on_server(connection.key).await;
        let terminated = terminate(&self.server, &self.application_name, connection.key);
        match within(GRACE, terminated).await {
            Some(Ok(())) => {}
            Some(Err(error)) => {
                tracing::warn!(%error, "a session was cancelled and not terminated")
            }
            None => tracing::warn!("a session was not terminated within {GRACE:?}"),
        }
    }

    /// Keeps the connection of a session for the next one, or closes it.
    async fn finish(&self, session: Session, mut place: Place<Connection>) {
        let is_busy = session.is_busy();
        match session.into_connection() {
            Ok(mut connection) => {
                place.release_owner();
                match connection.reset().await {
                    Ok(()) => place.give_back(connection),
                    Err(error) => tracing::debug!(%error, "a connection cannot be used again"),
                }
            }
            Err(connection) if is_busy => self.end_on_server(connection).await,
            Err(_) => {}
        }
    }
}

/// A key of a guest, as long as its session lasts.
struct Registered<'a> {
    door: &'a Door,
    key: (OwnerId, [u8; 8]),
    backend: BackendKey,
}

impl<'a> Registered<'a> {
    fn new(door: &'a Door, owner: OwnerId, secret: [u8; 8], backend: BackendKey) -> Self {
        let key = (owner, secret);
        door.keys.lock().insert(key, backend);
        Self { door, key, backend }
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.door.keys.lock().remove(&self.key);
    }
}

/// Applies the settings of a startup packet that differ from what the session has.
async fn apply(
    connection: &mut Connection,
    settings: &[(String, String)],
) -> Result<(), ErrorResponse> {
    use postgres_protocol::IsNull;
    use postgres_protocol::message::backend::Message;

    let differs = |(name, value): &&(String, String)| {
        connection
            .parameters
            .get(name)
            .is_none_or(|current| current != value)
    };
    let settings: Vec<_> = settings.iter().filter(differs).collect();
    if settings.is_empty() {
        return Ok(());
    }
    let calls: Vec<String> = (0..settings.len())
        .map(|index| {
            format!(
                "pg_catalog.set_config(${}, ${}, false)",
                2 * index + 1,
                2 * index + 2
            )
        })
        .collect();
    let statement = format!("select {}", calls.join(", "));
    let values = settings.iter().flat_map(|(name, value)| [name, value]);
    let mut message = BytesMut::new();
    let failed = || ErrorResponse::fatal("08006", "the session's settings cannot be applied");
    frontend::parse("", &statement, [], &mut message).map_err(|_| failed())?;
    let write = |value: &String, buffer: &mut BytesMut| {
        buffer.put_slice(value.as_bytes());
        Ok(IsNull::No)
    };
    frontend::bind("", "", [], values, write, [], &mut message).map_err(|_| failed())?;
    frontend::execute("", 0, &mut message).map_err(|_| failed())?;
    frontend::sync(&mut message);
    let applied = async {
        connection.send(&message).await?;
        let mut refused = None;
        loop {
            match connection.receive().await? {
                Message::ErrorResponse(error) => {
                    refused = Some(super::wire::read_error(error.fields()));
                }
                Message::ReadyForQuery(_) => return Ok::<_, ServerError>(refused),
                _ => {}
            }
        }
    };
    match within(GRACE, applied).await {
        Some(Ok(None)) => Ok(()),
        Some(Ok(Some(ServerError::Refused { message, .. }))) => {
            let why = format!("a setting of the startup packet is refused: {message}");
            Err(ErrorResponse::fatal("22023", why))
        }
        _ => Err(failed()),
    }
}

/// What a server sends after a login.
fn greeting(connection: &Connection, secret: [u8; 8], negotiate: Option<Vec<String>>) -> BytesMut {
    let mut bytes = BytesMut::new();
    let mut frame = |tag: u8, body: &[u8]| {
        bytes.put_u8(tag);
        bytes.put_u32(u32::try_from(body.len() + 4).unwrap_or(u32::MAX));
        bytes.put_slice(body);
    };
    if let Some(extensions) = negotiate {
        let mut body = BytesMut::new();
        // The newest minor version, and the names that are not known.
        body.put_u32(0);
        body.put_u32(u32::try_from(extensions.len()).unwrap_or(u32::MAX));
        for name in extensions {
            body.put_slice(name.as_bytes());
            body.put_u8(0);
        }
        frame(b'v', &body);
    }
    frame(b'R', &[0; 4]);
    for (name, value) in &connection.parameters {
        frame(b'S', format!("{name}\0{value}\0").as_bytes());
    }
    frame(b'K', &secret);
    frame(b'Z', b"I");
    bytes
}

async fn say(guest: &mut impl Socket, error: &ErrorResponse) {
    let _ = within(GRACE, guest.write_all(&error.encode())).await;
}
