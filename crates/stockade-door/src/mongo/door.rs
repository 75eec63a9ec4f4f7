//! One grant's door, and its sessions.

use std::sync::Arc;

use tokio::io::AsyncWriteExt as _;

use super::connect::connect;
use super::rules::Commands;
use super::server::Server;
use super::session::Session;
use super::shared::Shared;
use crate::limits::{Limits, PoolLimits};
use crate::pool::{OwnerId, PoolUse, within};
use crate::server::{GRACE, ServerError, Socket};

/// The door of one grant.
pub struct Door(Arc<Shared>);

impl Door {
    /// A door to `server`, where each owner has at most `cursors` open. Nothing is connected yet.
    #[must_use]
    pub fn new(
        server: Server,
        commands: Commands,
        limits: Limits,
        pool: PoolLimits,
        cursors: usize,
    ) -> Self {
        Self(Arc::new(Shared::new(
            server, commands, limits, pool, cursors,
        )))
    }

    /// Logs in once.
    ///
    /// # Errors
    /// When that fails, or the user may do too much.
    pub async fn check(&self) -> Result<(), ServerError> {
        connect(&self.0.server).await.map(drop)
    }

    /// What the connections are used for.
    #[must_use]
    pub fn usage(&self) -> PoolUse {
        self.0.pool.usage()
    }

    /// Ends what an owner waits for. Its sessions end with their streams.
    pub fn ended(&self, owner: OwnerId) {
        self.0.pool.ended(owner);
    }

    /// Serves one stream of a guest until it ends.
    pub async fn serve(&self, owner: OwnerId, mut guest: impl Socket) {
        let shared = &*self.0;
        shared.cursors.enter(owner);
        let leaving = Leaving {
            shared: Arc::clone(&self.0),
            owner,
        };
        Session::new(shared, owner).run(&mut guest).await;
        drop(leaving);
        let _ = within(GRACE, guest.shutdown()).await;
    }
}

/// Kills the cursors that nobody can go on with, however a session ended.
struct Leaving {
    shared: Arc<Shared>,
    owner: OwnerId,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        let open = self.shared.cursors.leave(self.owner);
        if !open.is_empty() {
            let (shared, owner) = (Arc::clone(&self.shared), self.owner);
            tokio::spawn(async move { shared.kill(owner, open).await });
        }
    }
}
