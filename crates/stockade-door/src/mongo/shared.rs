//! What the sessions of one grant share: the server, the limits, the connections and whose cursors are open.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::connect::{Connection, connect};
use super::cursors::{Cursors, Open};
use super::rules::{Commands, kill};
use super::server::Server;
use crate::limits::{Limits, PoolLimits};
use crate::pool::{OwnerId, Place, Pool, within};
use crate::server::{GRACE, ServerError};

/// What the sessions of one grant share.
pub(crate) struct Shared {
    pub(crate) server: Server,
    pub(crate) commands: Commands,
    pub(crate) limits: Limits,
    pub(crate) cursors: Cursors,
    pub(crate) pool: Arc<Pool<Connection>>,
    /// What the server speaks, once that is known.
    versions: Mutex<Option<(i32, i32)>>,
}

impl Shared {
    pub(crate) fn new(
        server: Server,
        commands: Commands,
        limits: Limits,
        pool: PoolLimits,
        cursors: usize,
    ) -> Self {
        Self {
            server,
            commands,
            limits,
            cursors: Cursors::new(cursors),
            pool: Arc::new(Pool::new(pool)),
            versions: Mutex::default(),
        }
    }

    /// A connection for one command.
    pub(crate) async fn take(
        &self,
        owner: OwnerId,
    ) -> Result<(Connection, Place<Connection>), ServerError> {
        let taken = self.pool.take(owner, |_| true, connect(&self.server));
        taken.await.inspect_err(|error| {
            tracing::warn!(%error, "no connection for a command");
        })
    }

    /// The versions of the protocol that the server speaks.
    pub(crate) async fn versions(&self, owner: OwnerId) -> Result<(i32, i32), ServerError> {
        let known = *self.versions.lock();
        if let Some(versions) = known {
            return Ok(versions);
        }
        let (connection, place) = self.take(owner).await?;
        let versions = connection.versions;
        place.give_back(connection);
        *self.versions.lock() = Some(versions);
        Ok(versions)
    }

    /// Kills cursors, which nobody can go on with any more.
    pub(crate) async fn kill(&self, owner: OwnerId, open: Open) {
        let mut collections: HashMap<String, Vec<i64>> = HashMap::new();
        for (cursor, collection) in open {
            collections.entry(collection).or_default().push(cursor);
        }
        let killed = async {
            let (mut connection, place) = self.take(owner).await?;
            for (collection, cursors) in collections {
                let command = kill(&collection, &cursors, &self.server.login.database);
                connection.must(&command).await?;
            }
            place.give_back(connection);
            Ok(())
        };
        let killed: Option<Result<(), ServerError>> = within(GRACE, killed).await;
        if !matches!(killed, Some(Ok(()))) {
            tracing::warn!(
                "cursors of a guest that has ended stay open on the server until it ends them"
            );
        }
    }
}
