//! What the sessions of all protocols have in common: how they end, and what their limits say.

use std::fmt::Debug;

use crate::limits::Limits;
use crate::work_clock::Expired;

/// Why a session ended. `E` is what its guest is sent.
#[derive(Debug)]
pub(crate) enum Ended<E> {
    /// The guest said goodbye at the end of a message.
    Terminated,
    /// The guest or the server went away.
    Gone,
    /// A limit, or bytes that do not belong here.
    By(E),
}

impl Limits {
    /// What a limit of time says when it has passed.
    pub(crate) fn expired(&self, expired: Expired) -> String {
        let (what, limit) = match expired {
            Expired::Statement | Expired::Unresponsive => ("the statement ran", self.statement),
            Expired::Transaction => ("the transaction was open", self.transaction),
            Expired::IdleInTransaction => ("the transaction was idle", self.idle_in_transaction),
            Expired::Idle => ("the session was idle", self.idle),
        };
        allows(what, &limit)
    }

    /// What the limit of rows says when a result is over it.
    pub(crate) fn too_many_rows(&self) -> String {
        let rows = self.rows;
        format!("the result has more than the {rows} rows that this grant allows")
    }

    /// What the limit of bytes says when a result is over it.
    pub(crate) fn too_many_bytes(&self) -> String {
        let most = self.max_result;
        format!("the result has more than the {most} bytes that this grant allows")
    }
}

/// What a limit says of something that took longer.
pub(crate) fn allows(what: &str, limit: &impl Debug) -> String {
    format!("{what} longer than the {limit:?} that this grant allows")
}
