//! The clocks of one session: which of its limits of time comes next, and which has passed.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::limits::Limits;
use crate::server::GRACE;

/// A limit of time that has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expired {
    /// The statement runs too long.
    Statement,
    /// The transaction is open too long.
    Transaction,
    /// Nothing is asked for inside a transaction.
    IdleInTransaction,
    /// Nothing is asked for at all.
    Idle,
    /// A cancelled statement did not end.
    Unresponsive,
}

/// The limits of time of a session.
#[derive(Debug, Clone, Copy)]
struct Times {
    statement: Duration,
    transaction: Duration,
    idle_in_transaction: Duration,
    idle: Duration,
}

/// What a session does, with the times since when.
#[derive(Debug)]
struct Work {
    /// When the statement that runs began.
    statement: Option<Instant>,
    /// When the transaction began, explicit or of the statement that runs.
    transaction: Option<Instant>,
    /// When the server last became idle.
    idle: Instant,
    /// When the statement that runs was cancelled.
    cancelled: Option<Instant>,
}

impl Work {
    fn begun(&mut self, now: Instant) {
        self.statement.get_or_insert(now);
        self.transaction.get_or_insert(now);
    }

    fn next_statement(&mut self, now: Instant) {
        if self.statement.is_some() && self.cancelled.is_none() {
            self.statement = Some(now);
        }
    }

    fn answered(&mut self, in_transaction: bool, is_idle: bool, now: Instant) {
        self.cancelled = None;
        self.idle = now;
        self.statement = (!is_idle).then_some(now);
        if !in_transaction {
            self.transaction = (!is_idle).then_some(now);
        }
    }

    fn cancelled(&mut self, now: Instant) {
        if self.statement.is_some() {
            self.cancelled.get_or_insert(now);
        }
    }

    /// The limit that comes next.
    fn next(&self, times: &Times) -> (Instant, Expired) {
        let of_transaction = self
            .transaction
            .map(|since| (since + times.transaction, Expired::Transaction));
        let other = match (self.statement, self.cancelled) {
            (Some(_), Some(cancelled)) => (cancelled + GRACE, Expired::Unresponsive),
            (Some(since), None) => (since + times.statement, Expired::Statement),
            (None, _) if self.transaction.is_some() => {
                let at = self.idle + times.idle_in_transaction;
                (at, Expired::IdleInTransaction)
            }
            (None, _) => (self.idle + times.idle, Expired::Idle),
        };
        match of_transaction {
            Some(of_transaction) if of_transaction.0 < other.0 => of_transaction,
            _ => other,
        }
    }
}

/// The clocks. They may be stopped and started for each statement: the task that waits for them is woken only when
/// a limit comes earlier than what it waits for.
pub(crate) struct WorkClock {
    times: Times,
    state: Mutex<State>,
    earlier: Notify,
}

struct State {
    work: Work,
    /// Until when the task that waits sleeps at most.
    armed: Instant,
}

impl WorkClock {
    pub(crate) fn new(limits: &Limits) -> Self {
        let now = Instant::now();
        let work = Work {
            statement: None,
            transaction: None,
            idle: now,
            cancelled: None,
        };
        Self {
            times: Times {
                statement: limits.statement,
                transaction: limits.transaction,
                idle_in_transaction: limits.idle_in_transaction,
                idle: limits.idle,
            },
            state: Mutex::new(State { work, armed: now }),
            earlier: Notify::new(),
        }
    }

    /// The server was given something to do.
    pub(crate) fn begun(&self) {
        self.change(Work::begun);
    }

    /// A statement ended, and the next one of the same message begins.
    pub(crate) fn next_statement(&self) {
        self.change(Work::next_statement);
    }

    /// The server is done with a message: `in_transaction` or not, and with everything (`is_idle`) or not.
    pub(crate) fn answered(&self, in_transaction: bool, is_idle: bool) {
        self.change(|work, now| work.answered(in_transaction, is_idle, now));
    }

    /// The statement that runs was cancelled, and is to end soon.
    pub(crate) fn cancelled(&self) {
        self.change(Work::cancelled);
    }

    /// Whether the statement that runs was cancelled.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.state.lock().work.cancelled.is_some()
    }

    /// Whether a statement runs.
    pub(crate) fn is_busy(&self) -> bool {
        self.state.lock().work.statement.is_some()
    }

    fn change(&self, change: impl FnOnce(&mut Work, Instant)) {
        let mut state = self.state.lock();
        change(&mut state.work, Instant::now());
        let is_earlier = state.work.next(&self.times).0 < state.armed;
        drop(state);
        if is_earlier {
            self.earlier.notify_one();
        }
    }

    /// Waits until a limit has passed.
    pub(crate) async fn expired(&self) -> Expired {
        loop {
            let at = {
                let mut state = self.state.lock();
                let (at, what) = state.work.next(&self.times);
                if at <= Instant::now() {
                    return what;
                }
                state.armed = at;
                at
            };
            tokio::select! {
                () = sleep_until(at) => {}
                () = self.earlier.notified() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: Times = Times {
        statement: Duration::from_secs(5),
        transaction: Duration::from_secs(8),
        idle_in_transaction: Duration::from_secs(2),
        idle: Duration::from_secs(600),
    };

    /// What passes next after `steps`, which get the time of a second, and when, in seconds.
    fn check(steps: impl FnOnce(&mut Work, &dyn Fn(u64) -> Instant), expected: (u64, Expired)) {
        let begun = Instant::now();
        let mut work = Work {
            statement: None,
            transaction: None,
            idle: begun,
            cancelled: None,
        };
        steps(&mut work, &|second| begun + Duration::from_secs(second));
        let (at, what) = work.next(&TIMES);
        assert_eq!(((at - begun).as_secs(), what), expected);
    }

    #[test]
    fn work_without_a_statement_is_idle() {
        check(|_, _| {}, (600, Expired::Idle));
        let steps = |work: &mut Work, at: &dyn Fn(u64) -> Instant| {
            work.begun(at(0));
            work.answered(false, true, at(1));
        };
        check(steps, (601, Expired::Idle));
    }

    #[test]
    fn work_of_a_statement_ends_at_its_limit() {
        check(|work, at| work.begun(at(0)), (5, Expired::Statement));
        // The second of two messages that were sent together.
        let steps = |work: &mut Work, at: &dyn Fn(u64) -> Instant| {
            work.begun(at(0));
            work.answered(false, false, at(4));
        };
        check(steps, (9, Expired::Statement));
        // Statements of one message have each their time, and the message that of a transaction.
        let steps = |work: &mut Work, at: &dyn Fn(u64) -> Instant| {
            work.begun(at(0));
            work.next_statement(at(4));
        };
        check(steps, (8, Expired::Transaction));
    }

    #[test]
    fn work_that_was_cancelled_ends_after_the_grace() {
        let steps = |work: &mut Work, at: &dyn Fn(u64) -> Instant| {
            work.begun(at(0));
            work.cancelled(at(1));
            // Neither of them gives more time.
            work.next_statement(at(2));
            work.begun(at(2));
        };
        check(steps, (1 + GRACE.as_secs(), Expired::Unresponsive));
    }

    #[test]
    fn work_inside_a_transaction_ends_when_idle_or_at_its_limit() {
        let steps = |work: &mut Work, at: &dyn Fn(u64) -> Instant| {
            work.begun(at(0));
            work.answered(true, true, at(1));
        };
        check(steps, (3, Expired::IdleInTransaction));
        let steps = |work: &mut Work, at: &dyn Fn(u64) -> Instant| {
            work.begun(at(0));
            work.answered(true, true, at(1));
            work.begun(at(2));
            work.answered(true, true, at(7));
        };
        check(steps, (8, Expired::Transaction));
    }
}
