//! What one grant may use of its server.

use std::time::Duration;

/// Limits of the statements and results of one guest's session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Longest time of one statement. Longer ones are cancelled.
    pub statement: Duration,
    /// Longest time of one transaction. Longer ones are rolled back, and the session ends.
    pub transaction: Duration,
    /// Longest time without a statement inside a transaction. The session ends then.
    pub idle_in_transaction: Duration,
    /// Longest time without any statement. The session ends then.
    pub idle: Duration,
    /// Most rows of one result.
    pub rows: u64,
    /// Most bytes of one result.
    pub max_result: u64,
    /// Most bytes of one message from the guest.
    pub max_request: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            statement: Duration::from_secs(5),
            transaction: Duration::from_secs(10),
            idle_in_transaction: Duration::from_secs(2),
            idle: Duration::from_secs(600),
            rows: 10_000,
            max_result: 16 << 20,
            max_request: 1 << 20,
        }
    }
}

/// Limits of the connections to one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolLimits {
    /// Most connections to the server, in use and idle.
    pub connections: usize,
    /// Most connections that one owner uses at a time.
    pub per_owner: usize,
    /// Most sessions that wait for a connection.
    pub waiting: usize,
    /// Longest time to wait for a connection, with the login to the server.
    pub connect: Duration,
    /// Most logins and cancellations in a second.
    pub attempts: u32,
    /// How long an idle connection stays open.
    pub keep: Duration,
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self {
            connections: 5,
            per_owner: 5,
            waiting: 64,
            connect: Duration::from_secs(10),
            attempts: 20,
            keep: Duration::from_secs(60),
        }
    }
}
