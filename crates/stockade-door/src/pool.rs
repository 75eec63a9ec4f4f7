//! Connections to one server, each used by one guest's session at a time.
//!
//! Invariants: at most `connections` are open, in use and idle together. What an owner uses is counted from before it
//! waits until its session is over: the connection is only to be reset, or was closed.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::limits::PoolLimits;
use crate::server::{Full, ServerError};

/// Who opens sessions: one isolate. A number is never used for a second one.
pub type OwnerId = u64;

/// What the connections of a pool are used for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolUse {
    /// Connections that serve a session, or are being made for one.
    pub in_use: usize,
    /// Connections that wait for the next session.
    pub idle: usize,
}

/// A connection that can be kept.
pub(crate) trait Pooled: Send + 'static {
    /// Whether the server still keeps an idle connection open, and has sent nothing.
    fn is_alive(&mut self) -> bool;
}

/// The connections of one grant.
pub(crate) struct Pool<C> {
    limits: PoolLimits,
    permits: Arc<Semaphore>,
    state: Mutex<State<C>>,
}

struct State<C> {
    /// With the time since when each is idle; the last one came last.
    idle: Vec<(Instant, C)>,
    is_tidied: bool,
    owners: HashMap<OwnerId, Owner>,
    waiting: usize,
    attempts: Attempts,
}

struct Owner {
    open: usize,
    ended: CancellationToken,
}

impl<C: Pooled> Pool<C> {
    pub(crate) fn new(limits: PoolLimits) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(limits.connections)),
            state: Mutex::new(State {
                idle: Vec::new(),
                is_tidied: false,
                owners: HashMap::new(),
                waiting: 0,
                attempts: Attempts::new(limits.attempts),
            }),
            limits,
        }
    }

    /// Takes a connection that `suits`, or makes one with `connect`.
    ///
    /// # Errors
    /// When a limit of the pool is reached, or `connect` fails or takes too long.
    pub(crate) async fn take(
        self: &Arc<Self>,
        owner: OwnerId,
        suits: impl Fn(&C) -> bool + Send,
        connect: impl Future<Output = Result<C, ServerError>> + Send,
    ) -> Result<(C, Place<C>), ServerError> {
        let until = Instant::now() + self.limits.connect;
        let ownership = self.own(owner)?;
        let permit = self.permit(until).await?;
        let place = Place {
            pool: Arc::clone(self),
            ended: ownership.ended.clone(),
            ownership: Some(ownership),
            _permit: permit,
        };
        while let Some(mut connection) = self.idle(&suits) {
            if connection.is_alive() {
                return Ok((connection, place));
            }
        }
        self.attempt()?;
        let slow = |_| ServerError::Slow(self.limits.connect);
        let connected = tokio::time::timeout_at(until, connect).await;
        Ok((connected.map_err(slow)??, place))
    }

    /// Counts a connection that is about to be made.
    ///
    /// # Errors
    /// When there were too many within a second.
    pub(crate) fn attempt(&self) -> Result<(), Full> {
        let is_allowed = self.state.lock().attempts.take(Instant::now());
        is_allowed
            .then_some(())
            .ok_or(Full::Attempts(self.limits.attempts))
    }

    /// Ends all sessions of an owner.
    pub(crate) fn ended(&self, owner: OwnerId) {
        if let Some(owner) = self.state.lock().owners.remove(&owner) {
            owner.ended.cancel();
        }
    }

    pub(crate) fn usage(&self) -> PoolUse {
        PoolUse {
            in_use: self.limits.connections - self.permits.available_permits(),
            idle: self.state.lock().idle.len(),
        }
    }

    fn own(self: &Arc<Self>, id: OwnerId) -> Result<Ownership<C>, Full> {
        let mut state = self.state.lock();
        let owner = state.owners.entry(id).or_insert_with(|| Owner {
            open: 0,
            ended: CancellationToken::new(),
        });
        if owner.open >= self.limits.per_owner {
            return Err(Full::Owner(self.limits.per_owner));
        }
        owner.open += 1;
        Ok(Ownership {
            pool: Arc::clone(self),
            id,
            ended: owner.ended.clone(),
        })
    }

    async fn permit(&self, until: Instant) -> Result<OwnedSemaphorePermit, Full> {
        let full = Full::Connections(self.limits.connections);
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return Ok(permit);
        }
        let _waiting = {
            let mut state = self.state.lock();
            if state.waiting >= self.limits.waiting {
                return Err(full);
            }
            state.waiting += 1;
            Waiting(&self.state)
        };
        let permit = Arc::clone(&self.permits).acquire_owned();
        match tokio::time::timeout_at(until, permit).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(full),
        }
    }

    /// Takes the idle connection that was used last among those that suit. If there is none, makes room for another.
    fn idle(&self, suits: impl Fn(&C) -> bool) -> Option<C> {
        let mut state = self.state.lock();
        let found = state.idle.iter().rposition(|(_, idle)| suits(idle));
        if let Some(index) = found {
            return Some(state.idle.remove(index).1);
        }
        let in_use = self.limits.connections - self.permits.available_permits();
        let most = self.limits.connections - in_use;
        let excess = state.idle.len().saturating_sub(most);
        let closed: Vec<_> = state.idle.drain(..excess).collect();
        drop(state);
        drop(closed);
        None
    }

    fn keep(self: &Arc<Self>, connection: C) {
        let now = Instant::now();
        let mut state = self.state.lock();
        state.idle.push((now, connection));
        if !state.is_tidied {
            state.is_tidied = true;
            tokio::spawn(tidy(Arc::downgrade(self), now + self.limits.keep));
        }
    }
}

/// Closes connections that were idle for too long, until none is idle.
async fn tidy<C: Pooled>(pool: Weak<Pool<C>>, mut at: Instant) {
    loop {
        sleep_until(at).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut state = pool.state.lock();
        let oldest = Instant::now() - pool.limits.keep;
        let expired = state.idle.partition_point(|(since, _)| *since <= oldest);
        let closed: Vec<_> = state.idle.drain(..expired).collect();
        match state.idle.first() {
            Some((since, _)) => at = *since + pool.limits.keep,
            None => {
                state.is_tidied = false;
                return;
            }
        }
        drop(state);
        drop(closed);
    }
}

struct Waiting<'a, C>(&'a Mutex<State<C>>);

impl<C> Drop for Waiting<'_, C> {
    fn drop(&mut self) {
        self.0.lock().waiting -= 1;
    }
}

/// One connection's place in the pool.
pub(crate) struct Place<C: Pooled> {
    pool: Arc<Pool<C>>,
    ended: CancellationToken,
    ownership: Option<Ownership<C>>,
    _permit: OwnedSemaphorePermit,
}

impl<C: Pooled> Place<C> {
    /// Cancelled when the owner has ended.
    pub(crate) fn ended(&self) -> CancellationToken {
        self.ended.clone()
    }

    /// The owner's session is over, so the owner may have another one. The connection has its place meanwhile.
    pub(crate) fn release_owner(&mut self) {
        self.ownership = None;
    }

    /// Keeps a connection for the next session. It must be as one that was just made.
    pub(crate) fn give_back(self, connection: C) {
        self.pool.keep(connection);
    }
}

struct Ownership<C: Pooled> {
    pool: Arc<Pool<C>>,
    id: OwnerId,
    ended: CancellationToken,
}

impl<C: Pooled> Drop for Ownership<C> {
    fn drop(&mut self) {
        let mut state = self.pool.state.lock();
        if let Some(owner) = state.owners.get_mut(&self.id) {
            owner.open -= 1;
            if owner.open == 0 {
                state.owners.remove(&self.id);
            }
        }
    }
}

/// Connection attempts: at most `rate` at once and in a second.
struct Attempts {
    rate: u32,
    left: f64,
    since: Instant,
}

impl Attempts {
    fn new(rate: u32) -> Self {
        Self {
            rate,
            left: f64::from(rate),
            since: Instant::now(),
        }
    }

    fn take(&mut self, now: Instant) -> bool {
        let rate = f64::from(self.rate);
        let earned = now.duration_since(self.since).as_secs_f64() * rate;
        self.left = (self.left + earned).min(rate);
        self.since = now;
        let is_allowed = self.left >= 1.0;
        if is_allowed {
            self.left -= 1.0;
        }
        is_allowed
    }
}

/// Runs `work` for at most `limit`; `None` if it takes longer.
pub(crate) async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    timeout(limit, work).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Numbered(u32, bool);

    impl Pooled for Numbered {
        fn is_alive(&mut self) -> bool {
            self.1
        }
    }

    fn pool(limits: PoolLimits) -> Arc<Pool<Numbered>> {
        Arc::new(Pool::new(limits))
    }

    fn limits() -> PoolLimits {
        PoolLimits {
            connections: 2,
            per_owner: 1,
            waiting: 1,
            connect: Duration::from_millis(20),
            attempts: 100,
            keep: Duration::from_secs(60),
        }
    }

    async fn take(
        pool: &Arc<Pool<Numbered>>,
        owner: OwnerId,
        number: u32,
    ) -> Result<(Numbered, Place<Numbered>), ServerError> {
        let connect = async move { Ok(Numbered(number, true)) };
        pool.take(owner, |_| true, connect).await
    }

    #[tokio::test]
    async fn pool_gives_a_kept_connection_again_unless_it_is_dead() {
        let pool = pool(limits());
        let (connection, place) = take(&pool, 1, 1).await.unwrap();
        assert_eq!(pool.usage(), PoolUse { in_use: 1, idle: 0 });
        place.give_back(connection);
        assert_eq!(pool.usage(), PoolUse { in_use: 0, idle: 1 });
        let (mut connection, place) = take(&pool, 1, 2).await.unwrap();
        assert_eq!(connection.0, 1);
        connection.1 = false;
        place.give_back(connection);
        assert_eq!(take(&pool, 1, 3).await.unwrap().0.0, 3);
    }

    #[tokio::test]
    async fn pool_makes_room_for_a_connection_that_suits() {
        let pool = pool(limits());
        let (first, place) = take(&pool, 1, 1).await.unwrap();
        let (second, other) = take(&pool, 2, 2).await.unwrap();
        place.give_back(first);
        other.give_back(second);
        let connect = async { Ok(Numbered(3, true)) };
        let taken = pool.take(1, |idle| idle.0 == 3, connect).await.unwrap();
        assert_eq!(taken.0.0, 3);
        assert_eq!(pool.usage(), PoolUse { in_use: 1, idle: 1 });
    }

    #[tokio::test]
    async fn pool_refuses_what_is_over_its_limits() {
        let pool = pool(limits());
        let _first = take(&pool, 1, 1).await.unwrap();
        let error = take(&pool, 1, 2).await.err().unwrap();
        assert!(matches!(error, ServerError::Full(Full::Owner(1))));
        let _second = take(&pool, 2, 2).await.unwrap();
        let (third, fourth) = tokio::join!(take(&pool, 3, 3), take(&pool, 4, 4));
        for error in [third.err().unwrap(), fourth.err().unwrap()] {
            assert!(
                matches!(error, ServerError::Full(Full::Connections(2))),
                "{error}"
            );
        }
        assert_eq!(pool.state.lock().owners.len(), 2);
        assert_eq!(pool.state.lock().waiting, 0);
    }

    #[tokio::test]
    async fn pool_gives_a_connection_to_one_that_waits() {
        let pool = pool(PoolLimits {
            connections: 1,
            connect: Duration::from_secs(60),
            ..limits()
        });
        let (connection, place) = take(&pool, 1, 1).await.unwrap();
        let mut waits = Box::pin(take(&pool, 2, 2));
        assert!(futures_util::poll!(&mut waits).is_pending());
        place.give_back(connection);
        assert_eq!(waits.await.unwrap().0.0, 1);
    }

    #[tokio::test]
    async fn pool_ends_the_sessions_of_an_owner() {
        let pool = pool(limits());
        let (_connection, place) = take(&pool, 1, 1).await.unwrap();
        let (_other, of_other) = take(&pool, 2, 2).await.unwrap();
        pool.ended(1);
        assert!(place.ended().is_cancelled());
        assert!(!of_other.ended().is_cancelled());
    }

    #[test]
    fn attempts_come_back_with_time() {
        let mut attempts = Attempts::new(2);
        let now = Instant::now();
        assert!(attempts.take(now) && attempts.take(now) && !attempts.take(now));
        assert!(attempts.take(now + Duration::from_millis(600)));
        assert!(!attempts.take(now + Duration::from_millis(601)));
    }
}
