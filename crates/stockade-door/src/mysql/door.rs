//! One grant's door, and its sessions.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aws_lc_rs::rand;
use bytes::BytesMut;
use tokio::io::AsyncWriteExt as _;

use super::connect::{Connection, connect, kill};
use super::greeting::{Greeting, USUAL, choice};
use super::packet::{Refusal, packet, receive};
use super::session::{Ended, Session};
use crate::limits::{Limits, PoolLimits};
use crate::pool::{OwnerId, Place, Pool, PoolUse, within};
use crate::server::{GRACE, ServerError, Socket};
use crate::upstream::Server;

/// Longest time from the greeting to the guest's answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most bytes of that answer, with attributes that are dropped.
const MAX_ANSWER: usize = 64 << 10;
/// `OK`, with autocommit.
const OK: [u8; 7] = [0, 0, 0, 2, 0, 0, 0];

/// The door of one grant.
pub struct Door {
    server: Server,
    limits: Limits,
    pool: Arc<Pool<Connection>>,
    /// What the server said when it was first reached.
    greeting: OnceLock<Greeting>,
}

impl Door {
    /// A door to `server`. Nothing is connected yet.
    #[must_use]
    pub fn new(server: Server, limits: Limits, pool: PoolLimits) -> Self {
        Self {
            server,
            limits,
            pool: Arc::new(Pool::new(pool)),
            greeting: OnceLock::new(),
        }
    }

    /// Logs in once.
    ///
    /// # Errors
    /// When that fails, or the user may do too much.
    pub async fn check(&self) -> Result<(), ServerError> {
        connect(&self.server, USUAL).await.map(drop)
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
        if let Err((sequence, refusal)) = self.open(owner, &mut guest).await {
            say(&mut guest, sequence, &refusal).await;
        }
        let _ = within(GRACE, guest.shutdown()).await;
    }

    /// Serves a session.
    async fn open(&self, owner: OwnerId, guest: &mut impl Socket) -> Result<(), (u8, Refusal)> {
        // 1. What the guest can choose depends on the server.
        let greeting = self
            .greeting(owner)
            .await
            .map_err(|error| (0, refusal(&error)))?;
        let (thread, salt) =
            random().ok_or_else(|| (0, Refusal::new(1105, "HY000", "no random numbers")))?;
        let greeting = packet(0, &greeting.for_guest(thread, &salt));
        let mut buffer = BytesMut::new();
        let answered = within(PATIENCE, async {
            guest.write_all(&greeting).await?;
            guest.flush().await?;
            receive(&mut buffer, guest, MAX_ANSWER).await
        });
        let Some(Ok((sequence, answer))) = answered.await else {
            return Ok(());
        };
        let sequence = sequence.wrapping_add(1);
        let choice = choice(&answer).map_err(|refusal| (sequence, refusal))?;
        // 2. A connection with that choice.
        let taken = self.take(owner, choice).await;
        let (connection, place) = taken.map_err(|error| (sequence, refusal(&error)))?;
        let ended = place.ended();
        let mut session = Session::new(&self.limits, connection);
        let thread = session.thread();
        let outcome = if guest.write_all(&packet(sequence, &OK)).await.is_err() {
            Ended::Gone
        } else {
            let kill = || self.kill("QUERY", thread);
            tokio::select! {
                outcome = session.run(guest, kill) => outcome,
                () = ended.cancelled() => Ended::Gone,
            }
        };
        // 3. What the guest learns, if a limit ended the session.
        let sequence = session.next_sequence();
        let farewell = async {
            if let (Ended::By(refusal), Some(sequence)) = (outcome, sequence) {
                say(guest, sequence, &refusal).await;
            }
            let _ = within(GRACE, guest.shutdown()).await;
        };
        tokio::join!(self.finish(session, place), farewell);
        Ok(())
    }

    /// What the server says first, from the first connection, which is then kept.
    async fn greeting(&self, owner: OwnerId) -> Result<&Greeting, ServerError> {
        if let Some(greeting) = self.greeting.get() {
            return Ok(greeting);
        }
        let (connection, place) = self.take(owner, USUAL).await?;
        let greeting = connection.greeting.clone();
        place.give_back(connection);
        Ok(self.greeting.get_or_init(|| greeting))
    }

    async fn take(
        &self,
        owner: OwnerId,
        choice: u32,
    ) -> Result<(Connection, Place<Connection>), ServerError> {
        let taken = self.pool.take(
            owner,
            |idle| idle.choice == choice,
            connect(&self.server, choice),
        );
        let taken = taken.await;
        if let Err(error) = &taken {
            tracing::warn!(%error, "no connection for a session");
        }
        taken
    }

    async fn kill(&self, what: &str, thread: u32) {
        match within(GRACE, kill(&self.server, what, thread)).await {
            // The connection has ended by itself.
            Some(Err(ServerError::Refused { code, .. })) if code == "1094" => {}
            Some(Ok(())) => {}
            Some(Err(error)) => tracing::warn!(%error, "a statement was not killed"),
            None => tracing::warn!("a statement was not killed within {GRACE:?}"),
        }
    }

    /// Keeps the connection of a session for the next one, or closes it.
    async fn finish(&self, session: Session, mut place: Place<Connection>) {
        let (is_busy, thread) = (session.is_busy(), session.thread());
        let database = &self.server.login.database;
        let Some(mut connection) = session.into_clean().filter(|_| !database.is_empty()) else {
            if is_busy {
                // The server does not notice a closed connection while a statement runs.
                self.kill("CONNECTION", thread).await;
            }
            return;
        };
        place.release_owner();
        match connection.reset(database).await {
            Ok(()) => place.give_back(connection),
            Err(error) => tracing::debug!(%error, "a connection cannot be used again"),
        }
    }
}

/// The number of a thread that no server has, and a salt without zeros.
fn random() -> Option<(u32, [u8; 20])> {
    let (mut thread, mut salt) = ([0; 4], [0; 20]);
    rand::fill(&mut thread).ok()?;
    rand::fill(&mut salt).ok()?;
    let salt = salt.map(|byte| (byte & 0x7f).max(1));
    Some((u32::from_le_bytes(thread) | 1 << 31, salt))
}

fn refusal(error: &ServerError) -> Refusal {
    let (code, state) = match error {
        ServerError::Full(_) => (1040, "08004"),
        ServerError::Refused { .. } | ServerError::Method(_) | ServerError::Superuser(_) => {
            (1045, "28000")
        }
        _ => (2003, "HY000"),
    };
    Refusal::new(code, state, error.for_guest())
}

async fn say(guest: &mut impl Socket, sequence: u8, refusal: &Refusal) {
    let _ = within(GRACE, guest.write_all(&refusal.encode(sequence))).await;
}
