//! One grant's door, and its sessions.

use std::sync::Arc;

use tokio::io::AsyncWriteExt as _;

use super::commands::Commands;
use super::connect::{Connection, connect};
use super::session::{Ended, Session};
use crate::limits::{Limits, PoolLimits};
use crate::pool::{OwnerId, Place, Pool, PoolUse, within};
use crate::server::{GRACE, ServerError, Socket};
use crate::upstream::Server;

/// The door of one grant.
pub struct Door {
    server: Server,
    commands: Commands,
    limits: Limits,
    pool: Arc<Pool<Connection>>,
}

impl Door {
    /// A door to `server`. Nothing is connected yet.
    #[must_use]
    pub fn new(server: Server, commands: Commands, limits: Limits, pool: PoolLimits) -> Self {
        Self {
            server,
            commands,
            limits,
            pool: Arc::new(Pool::new(pool)),
        }
    }

    /// Logs in once.
    ///
    /// # Errors
    /// When that fails, or the user may do too much.
    pub async fn check(&self) -> Result<(), ServerError> {
        connect(&self.server).await.map(drop)
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
        let taken = self.pool.take(owner, |_| true, connect(&self.server));
        let (connection, place) = match taken.await {
            Ok(taken) => taken,
            Err(error) => {
                tracing::warn!(%error, "no connection for a session");
                say(&mut guest, &format!("-ERR {}\r\n", error.for_guest())).await;
                let _ = within(GRACE, guest.shutdown()).await;
                return;
            }
        };
        let ended = place.ended();
        let mut session = Session::new(&self.limits, connection);
        let outcome = tokio::select! {
            outcome = session.run(&mut guest, &self.commands, &self.server.login.database) => outcome,
            () = ended.cancelled() => Ended::Gone,
        };
        let is_at_boundary = session.is_guest_at_boundary();
        let farewell = async {
            match outcome {
                Ended::Terminated => say(&mut guest, "+OK\r\n").await,
                Ended::By(why) if is_at_boundary => {
                    say(&mut guest, &format!("-ERR {why}\r\n")).await;
                }
                Ended::By(_) | Ended::Gone => {}
            }
            let _ = within(GRACE, guest.shutdown()).await;
        };
        tokio::join!(self.finish(session, place), farewell);
    }

    /// Keeps the connection of a session for the next one, or closes it.
    async fn finish(&self, session: Session, mut place: Place<Connection>) {
        let Some(mut connection) = session.into_clean() else {
            return;
        };
        place.release_owner();
        match connection.reset(&self.server.login).await {
            Ok(()) => place.give_back(connection),
            Err(error) => tracing::debug!(%error, "a connection cannot be used again"),
        }
    }
}

async fn say(guest: &mut impl Socket, text: &str) {
    let _ = within(GRACE, guest.write_all(text.as_bytes())).await;
}
