//! What the guests of a host that is a program used of the network and of grants.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use stockade_broker::{Action, Audit, LogAudit as EgressLog, Refusal, Usage};

use crate::audit::{CallAudit, CallOutcome, CallRecord, LogAudit};

/// Adds up, and writes records to the log.
#[derive(Default)]
pub(crate) struct Tally {
    egress_log: EgressLog,
    call_log: LogAudit,
    requests: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    refused: AtomicU64,
    calls: AtomicU64,
    call_sent: AtomicU64,
    call_received: AtomicU64,
    calls_refused: AtomicU64,
}

/// What guests used of the network and of grants, and what they did not get. What is not over does not count yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GrantedUse {
    /// Outbound requests, WebSockets and connections.
    pub egress_requests: u64,
    /// Bytes that they sent.
    pub egress_sent: u64,
    /// Bytes that they received.
    pub egress_received: u64,
    /// Outbound requests that no rule allows, or that exceeded a limit.
    pub egress_refused: u64,
    /// Calls of grants.
    pub calls: u64,
    /// Bytes of their arguments.
    pub sent: u64,
    /// Bytes of their results.
    pub received: u64,
    /// Calls that a bound or a policy refused.
    pub refused: u64,
}

impl Tally {
    pub(crate) fn read(&self) -> GrantedUse {
        GrantedUse {
            egress_requests: self.requests.load(Relaxed),
            egress_sent: self.sent.load(Relaxed),
            egress_received: self.received.load(Relaxed),
            egress_refused: self.refused.load(Relaxed),
            calls: self.calls.load(Relaxed),
            sent: self.call_sent.load(Relaxed),
            received: self.call_received.load(Relaxed),
            refused: self.calls_refused.load(Relaxed),
        }
    }
}

impl Audit for Tally {
    fn refused(&self, refusal: &Refusal) {
        self.refused.fetch_add(1, Relaxed);
        self.egress_log.refused(refusal);
    }

    fn used(&self, usage: &Usage) {
        if usage.action != Action::File {
            self.requests.fetch_add(1, Relaxed);
            self.sent.fetch_add(usage.sent, Relaxed);
            self.received.fetch_add(usage.received, Relaxed);
        }
        self.egress_log.used(usage);
    }
}

impl CallAudit for Tally {
    fn called(&self, record: &CallRecord<'_>) {
        self.calls.fetch_add(1, Relaxed);
        self.call_sent.fetch_add(record.sent, Relaxed);
        self.call_received.fetch_add(record.received, Relaxed);
        if record.outcome == CallOutcome::Refused {
            self.calls_refused.fetch_add(1, Relaxed);
        }
        self.call_log.called(record);
    }
}
