//! One request or socket in flight: the bytes that it moved, what refused it, and how it ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use stockade_http::{RequestAccount, account_in_charge, key_in_charge};
use stockade_limits::Reported;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::audit::{Action, Audit, Moved, Outcome, Reason, Refusal, Usage};
use crate::budget::Quota;
use crate::error::EgressError;

/// Lives until both bodies are dropped; then it is reported to the audit, and its place is free.
pub(crate) struct InFlight {
    pub(crate) instance: Arc<str>,
    pub(crate) audit: Arc<dyn Audit>,
    pub(crate) quota: Arc<Quota>,
    pub(crate) action: Action,
    pub(crate) target: String,
    pub(crate) rule: Arc<str>,
    pub(crate) started: Instant,
    /// The API key for whose client the guest acts.
    key: Option<u64>,
    /// The account of the one request on which the guest works.
    account: Option<Arc<dyn RequestAccount>>,
    reported: Mutex<Reported>,
    sent: AtomicU64,
    received: AtomicU64,
    status: AtomicU16,
    /// Milliseconds from the start to the last piece of the request that was taken.
    progress: AtomicU64,
    outcome: Mutex<Outcome>,
    failure: Mutex<Option<EgressError>>,
    place: Mutex<Option<OwnedSemaphorePermit>>,
}

/// The properties of a request or socket that are known at its start.
pub(crate) struct Begun {
    pub(crate) instance: Arc<str>,
    pub(crate) audit: Arc<dyn Audit>,
    pub(crate) quota: Arc<Quota>,
    pub(crate) action: Action,
    pub(crate) target: String,
    pub(crate) rule: Arc<str>,
    pub(crate) started: Instant,
    pub(crate) place: OwnedSemaphorePermit,
}

impl InFlight {
    pub(crate) fn new(begun: Begun) -> Arc<Self> {
        let account = account_in_charge();
        if let Some(account) = &account {
            account.egress_began();
        }
        let in_flight = Self {
            instance: begun.instance,
            audit: begun.audit,
            quota: begun.quota,
            action: begun.action,
            target: begun.target,
            rule: begun.rule,
            started: begun.started,
            key: key_in_charge(),
            account,
            reported: Mutex::new(Reported::new(begun.started.into_std())),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            status: AtomicU16::new(0),
            progress: AtomicU64::new(0),
            outcome: Mutex::new(Outcome::Abandoned),
            failure: Mutex::new(None),
            place: Mutex::new(Some(begun.place)),
        };
        in_flight.stamp();
        Arc::new(in_flight)
    }

    /// Counts bytes towards the server: how many there are now, and until when to wait.
    pub(crate) fn sends(&self, bytes: usize) -> (u64, Result<Option<Instant>, Reason>) {
        self.stamp();
        let total = self.sent.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        if let Some(account) = &self.account {
            account.egress_moved(bytes as u64, 0);
        }
        self.report_progress();
        (total, self.quota.bytes(bytes))
    }

    /// Counts bytes from the server: how many there are now, and until when to wait.
    pub(crate) fn receives(&self, bytes: usize) -> (u64, Result<Option<Instant>, Reason>) {
        let total = self.received.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        if let Some(account) = &self.account {
            account.egress_moved(0, bytes as u64);
        }
        self.report_progress();
        (total, self.quota.bytes(bytes))
    }

    /// Reports the bytes so far of what lasts for long.
    fn report_progress(&self) {
        let (sent, received) = (self.sent.load(Ordering::Relaxed), self.received());
        let now = Instant::now().into_std();
        if let Some((sent, received)) = self.reported.lock().due(sent, received, now) {
            self.audit.moved(&Moved {
                instance: Arc::clone(&self.instance),
                key: self.key,
                sent,
                received,
            });
        }
    }

    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    pub(crate) fn stamp(&self) {
        self.stamp_at(Instant::now());
    }

    /// Says that the request goes on at `at`, before which nothing can be sent to the server.
    pub(crate) fn stamp_at(&self, at: Instant) {
        let since = at.saturating_duration_since(self.started);
        let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        self.progress.store(millis, Ordering::Relaxed);
    }

    /// When the last piece of the request was taken.
    pub(crate) fn progressed(&self) -> Instant {
        self.started + Duration::from_millis(self.progress.load(Ordering::Relaxed))
    }

    pub(crate) fn answered(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }

    /// All of the response came. Its place is free, though the guest may keep what it got.
    pub(crate) fn is_done(&self) {
        *self.outcome.lock() = Outcome::Done;
        self.place.lock().take();
    }

    /// Keeps the first failure: later ones follow from it.
    pub(crate) fn fails(&self, error: EgressError) -> EgressError {
        *self.outcome.lock() = Outcome::Failed;
        self.failure.lock().get_or_insert_with(|| error.clone());
        error
    }

    pub(crate) fn failure(&self) -> Option<EgressError> {
        self.failure.lock().clone()
    }

    /// Refuses a further use by a request that is in flight, and ends it.
    pub(crate) fn refuse(&self, reason: Reason) -> EgressError {
        let refusal = Refusal {
            instance: self.instance.clone(),
            action: self.action,
            target: self.target.clone(),
            rule: Some(self.rule.clone()),
            reason,
            address: None,
        };
        self.audit.refused(&refusal);
        self.fails(EgressError::Refused(Box::new(refusal)))
    }

    pub(crate) fn upstream(&self, why: impl ToString) -> EgressError {
        self.fails(EgressError::Upstream {
            target: self.target.clone(),
            why: why.to_string(),
        })
    }

    pub(crate) fn timed_out(&self, what: &'static str, limit: Duration) -> EgressError {
        self.fails(EgressError::TimedOut {
            target: self.target.clone(),
            what,
            limit,
        })
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let status = self.status.load(Ordering::Relaxed);
        let (sent, received) = (self.sent.load(Ordering::Relaxed), self.received());
        self.audit.used(&Usage {
            instance: self.instance.clone(),
            key: self.key,
            action: self.action,
            target: std::mem::take(&mut self.target),
            rule: self.rule.clone(),
            status: (status != 0).then_some(status),
            sent,
            received,
            unreported: self.reported.lock().rest(sent, received),
            took: self.started.elapsed(),
            outcome: *self.outcome.lock(),
        });
    }
}
