//! What an operator learns of the calls of grants: one record of each call, at its end.
//!
//! A record names what the configuration names, and fixed words. What a kind adds to it, its notes, may hold text that
//! a guest chose: it is for the log, where it is escaped, and never for a label.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use stockade_capability::Note;
use stockade_limits::LineLimiter;
use strum::{IntoStaticStr, VariantNames};

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum CallOutcome {
    /// With a value.
    Ok,
    /// With an error, of the kind or of its server.
    Error,
    /// A bound or the grant's policy refused it.
    Refused,
    /// It took too long.
    TimedOut,
    /// The guest, or its end, cut it short.
    Cancelled,
}

impl CallOutcome {
    /// A fixed name, fit for a metric's label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Which bound refused a call. Kinds add words of their own for their policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum RefusalReason {
    /// `rate`.
    Rate,
    /// `concurrent` and `queue`.
    Concurrency,
    /// `total_requests` or `total_bytes`.
    Budget,
    /// `max_request`.
    Request,
    /// `max_result`.
    Result,
    /// The kind has no such method.
    Method,
    /// The approver did not approve it.
    Approval,
}

impl RefusalReason {
    /// Whether a call that was refused for this did nothing and cost its guest nothing, so that its record may be left
    /// out among many.
    pub(crate) fn is_cheap(reason: &str) -> bool {
        [Self::Rate, Self::Concurrency, Self::Budget, Self::Method]
            .iter()
            .any(|cheap| cheap.as_str() == reason)
    }

    /// A fixed name, fit for a metric's label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// One call that is over.
#[derive(Debug)]
pub struct CallRecord<'a> {
    /// The instance whose guest called.
    pub instance: &'a Arc<str>,
    /// The grant's name in `env`.
    pub binding: &'a Arc<str>,
    /// The grant's kind.
    pub kind: &'static str,
    /// The mirror that called.
    pub mirror: u32,
    /// The number of the API key of the client for whom the guest called, where that is certain.
    pub key: Option<u64>,
    /// The method, or `unknown`.
    pub method: &'static str,
    /// How it ended.
    pub outcome: CallOutcome,
    /// Why it was refused.
    pub reason: Option<&'static str>,
    /// Bytes of its arguments.
    pub sent: u64,
    /// Bytes of its result.
    pub received: u64,
    /// Bytes sent and received that [`CallAudit::moved`] has not reported.
    pub unreported: (u64, u64),
    /// Until its result was there.
    pub took: Duration,
    /// What the kind adds.
    pub notes: Vec<(&'static str, Note)>,
    /// Whether the record must be written, however many there are.
    pub every_call: bool,
}

/// Bytes that a call has moved and that were not reported before.
#[derive(Debug)]
pub struct CallMoved<'a> {
    /// The instance whose guest called.
    pub instance: &'a Arc<str>,
    /// The number of the API key of the client for whom the guest called, where that is certain.
    pub key: Option<u64>,
    /// Bytes of its arguments.
    pub sent: u64,
    /// Bytes of its result.
    pub received: u64,
}

/// Receives the records of calls. Called on the paths of calls: must be quick, and must not block.
pub trait CallAudit: Send + Sync + 'static {
    /// A call is over.
    fn called(&self, record: &CallRecord<'_>);
    /// A call that is not over has moved bytes; about once in a second.
    fn moved(&self, moved: &CallMoved<'_>) {
        let _ = moved;
    }
}

/// Records of all grants that [`LogAudit`] writes in a second, of kinds whose records may be left out.
const LINES_PER_SECOND: u32 = 50;

/// Writes the records of a host that is a program to its log.
pub struct LogAudit(Mutex<LineLimiter>);

impl Default for LogAudit {
    fn default() -> Self {
        Self(Mutex::new(LineLimiter::new(Instant::now())))
    }
}

impl CallAudit for LogAudit {
    fn called(&self, record: &CallRecord<'_>) {
        let admitted = self.0.lock().admit(LINES_PER_SECOND, Instant::now());
        if admitted.is_none() && !record.every_call {
            return;
        }
        let mut notes = String::new();
        for (name, note) in &record.notes {
            // Writing into memory does not fail.
            let _ = match note {
                Note::Number(number) => write!(notes, " {name}={number}"),
                Note::Text(text) => write!(notes, " {name}={text:?}"),
            };
        }
        tracing::info!(
            name: "capability",
            target: "stockade::grants",
            instance = %record.instance,
            binding = %record.binding,
            kind = record.kind,
            method = record.method,
            outcome = record.outcome.as_str(),
            reason = record.reason,
            sent = record.sent,
            received = record.received,
            took_ms = u64::try_from(record.took.as_millis()).unwrap_or(u64::MAX),
            dropped_before = admitted.unwrap_or_default(),
            "capability{notes}",
        );
    }
}
