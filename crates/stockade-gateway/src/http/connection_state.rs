//! The state of one connection, shared by the tasks that read, write and answer on it. Each field is one duty.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use stockade_auth::LastKey;
use tokio::sync::Notify;

use crate::access::Refusal;
use crate::credential::KeyWatch;
use crate::http::timeouts::ConnectionTimers;
use crate::rate::LastCharges;

/// The state of one connection.
#[derive(Debug)]
pub(crate) struct ConnectionState {
    /// Requests run side by side, as on HTTP/2.
    pub(crate) multiplexed: bool,
    pub(crate) requests: RequestCounter,
    pub(crate) timers: ConnectionTimers,
    pub(crate) input: InputCheck,
    pub(crate) upgrade: PendingUpgrade,
    pub(crate) close: CloseMode,
    pub(crate) last_key: LastKey,
    pub(crate) key_watch: Arc<KeyWatch>,
    pub(crate) last_charges: LastCharges,
}

impl ConnectionState {
    /// `multiplexed`: requests run side by side, as on HTTP/2.
    pub(crate) fn new(multiplexed: bool) -> Self {
        Self {
            multiplexed,
            requests: RequestCounter::default(),
            timers: ConnectionTimers::new(multiplexed),
            input: InputCheck::default(),
            upgrade: PendingUpgrade::default(),
            close: CloseMode::default(),
            last_key: LastKey::default(),
            key_watch: Arc::new(KeyWatch::new(multiplexed)),
            last_charges: LastCharges::default(),
        }
    }
}

/// Numbers the requests of a connection, and ends it after the last one.
#[derive(Debug, Default)]
pub(crate) struct RequestCounter {
    begun: AtomicU64,
    last: Notify,
}

impl RequestCounter {
    /// The number of a request that begins, from 1.
    pub(crate) fn next(&self) -> u64 {
        self.begun.fetch_add(1, Relaxed) + 1
    }

    /// Asks that the connection ends after the requests that run.
    pub(crate) fn make_last(&self) {
        self.last.notify_one();
    }

    /// Waits for [`RequestCounter::make_last`].
    pub(crate) async fn until_last(&self) {
        self.last.notified().await;
    }
}

/// Whether the bytes of the client are HTTP with one meaning.
#[derive(Debug, Default)]
pub(crate) struct InputCheck(Mutex<Input>);

/// What the check of the client's bytes has come to. Once rejected, they stay rejected for the first reason.
#[derive(Debug, Default, Clone, Copy)]
enum Input {
    #[default]
    Valid,
    /// Nobody has answered or counted the refusal yet.
    Rejected { refusal: Refusal, request: u64 },
    /// The refusal was answered or counted.
    Reported { refusal: Refusal, request: u64 },
}

impl InputCheck {
    /// Rejects the client's bytes from here on. `request` is the number of the request that they belong to.
    pub(crate) fn reject(&self, refusal: Refusal, request: u64) {
        let mut input = self.0.lock();
        if let Input::Valid = *input {
            *input = Input::Rejected { refusal, request };
        }
    }

    /// Why the bytes of this request were rejected. The caller answers for it.
    pub(crate) fn rejected(&self, number: u64) -> Option<Refusal> {
        let mut input = self.0.lock();
        match *input {
            Input::Rejected { refusal, request } | Input::Reported { refusal, request }
                if request == number =>
            {
                *input = Input::Reported { refusal, request };
                Some(refusal)
            }
            _ => None,
        }
    }

    /// Why the bytes were rejected, if no request was answered for it. Returned once.
    pub(crate) fn take_unreported(&self) -> Option<Refusal> {
        let mut input = self.0.lock();
        match *input {
            Input::Rejected { refusal, request } => {
                *input = Input::Reported { refusal, request };
                Some(refusal)
            }
            Input::Valid | Input::Reported { .. } => None,
        }
    }
}

/// Whether the connection becomes something else, as the last request asked.
#[derive(Debug, Default)]
pub(crate) struct PendingUpgrade(Mutex<Option<UpgradeDecision>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UpgradeDecision {
    Accepted,
    Refused,
}

impl PendingUpgrade {
    pub(crate) fn decide(&self, decision: UpgradeDecision) {
        *self.0.lock() = Some(decision);
    }

    /// The decision, returned once; none while there is none.
    pub(crate) fn take(&self) -> Option<UpgradeDecision> {
        self.0.lock().take()
    }
}

/// How the connection is closed.
#[derive(Debug, Default)]
pub(crate) struct CloseMode(Mutex<Close>);

/// Ways to close a connection. The later one wins.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Close {
    /// At once: the client has sent everything.
    #[default]
    Plain,
    /// After reading what the client still sends, so that it can take the response (RFC 9112, section 9.6).
    Linger,
    /// By a reset that drops what the client has not taken.
    Reset,
}

impl CloseMode {
    pub(crate) fn linger(&self) {
        self.raise(Close::Linger);
    }

    pub(crate) fn reset(&self) {
        self.raise(Close::Reset);
    }

    fn raise(&self, close: Close) {
        let mut current = self.0.lock();
        *current = close.max(*current);
    }

    pub(crate) fn current(&self) -> Close {
        *self.0.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejection_is_answered_by_its_request_and_reported_once() {
        let input = InputCheck::default();
        assert_eq!(input.rejected(1), None);
        assert_eq!(input.take_unreported(), None);
        input.reject(Refusal::MalformedBody, 1);
        input.reject(Refusal::MalformedHead, 2);
        assert_eq!(input.rejected(2), None);
        assert_eq!(input.rejected(1), Some(Refusal::MalformedBody));
        assert_eq!(input.rejected(1), Some(Refusal::MalformedBody));
        assert_eq!(input.take_unreported(), None);
    }

    #[test]
    fn rejection_without_a_request_is_reported_once() {
        let input = InputCheck::default();
        input.reject(Refusal::FrameFlood, 0);
        assert_eq!(input.take_unreported(), Some(Refusal::FrameFlood));
        assert_eq!(input.take_unreported(), None);
    }

    #[test]
    fn reset_wins_over_lingering() {
        let close = CloseMode::default();
        assert_eq!(close.current(), Close::Plain);
        close.linger();
        close.reset();
        close.linger();
        assert_eq!(close.current(), Close::Reset);
    }

    #[test]
    fn upgrade_is_decided_for_one_request() {
        let upgrade = PendingUpgrade::default();
        assert_eq!(upgrade.take(), None);
        upgrade.decide(UpgradeDecision::Refused);
        assert_eq!(upgrade.take(), Some(UpgradeDecision::Refused));
        assert_eq!(upgrade.take(), None);
    }
}
