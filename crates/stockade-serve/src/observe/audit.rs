//! What the broker refused and what it did.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use stockade_broker::{Audit, LogAudit, Refusal, Usage};

use crate::metrics::Reading;

/// Counts, and writes refusals to the log.
pub(crate) struct AuditFigures {
    log: LogAudit,
    refusals: Mutex<HashMap<Series, u64>>,
    used: Mutex<HashMap<Series, Used>>,
}

/// An instance, an action, and why it was refused or how it ended.
type Series = (Arc<str>, &'static str, &'static str);

#[derive(Default, Clone, Copy)]
struct Used {
    exchanges: u64,
    sent: u64,
    received: u64,
}

impl AuditFigures {
    pub(crate) fn new() -> Self {
        Self {
            log: LogAudit::default(),
            refusals: Mutex::default(),
            used: Mutex::default(),
        }
    }

    /// Forgets a site that is gone.
    pub(crate) fn forget(&self, site: &str) {
        self.refusals.lock().retain(|(name, ..), _| **name != *site);
        self.used.lock().retain(|(name, ..), _| **name != *site);
    }

    pub(crate) fn readings(&self) -> Vec<Reading> {
        let labels = |instance: &Arc<str>, action: &str, third: (&'static str, &str)| {
            vec![
                ("instance", instance.to_string()),
                ("action", action.to_owned()),
                (third.0, third.1.to_owned()),
            ]
        };
        let refusals = self.refusals.lock();
        let refused = refusals.iter().map(|((instance, action, reason), count)| {
            (labels(instance, action, ("reason", reason)), *count as f64)
        });
        let mut readings = vec![Reading {
            name: "stockade_egress_refused",
            help: "What guests wanted of the network or of folders and did not get",
            counter: true,
            values: refused.collect(),
        }];
        let used = self.used.lock();
        type Part = (&'static str, &'static str, fn(&Used) -> u64);
        let parts: [Part; 3] = [
            (
                "stockade_egress_requests",
                "Exchanges of guests with the outside",
                |used| used.exchanges,
            ),
            (
                "stockade_egress_sent_bytes",
                "Bytes of bodies and messages that guests sent",
                |used| used.sent,
            ),
            (
                "stockade_egress_received_bytes",
                "Bytes of bodies and messages that guests received",
                |used| used.received,
            ),
        ];
        for (name, help, of) in parts {
            let values = used.iter().map(|((instance, action, outcome), used)| {
                (
                    labels(instance, action, ("outcome", outcome)),
                    of(used) as f64,
                )
            });
            readings.push(Reading {
                name,
                help,
                counter: true,
                values: values.collect(),
            });
        }
        readings
    }
}

impl Audit for AuditFigures {
    fn refused(&self, refusal: &Refusal) {
        let key = (
            Arc::clone(&refusal.instance),
            refusal.action.as_str(),
            refusal.reason.as_str(),
        );
        *self.refusals.lock().entry(key).or_default() += 1;
        self.log.refused(refusal);
    }

    fn used(&self, usage: &Usage) {
        let key = (
            Arc::clone(&usage.instance),
            usage.action.as_str(),
            usage.outcome.as_str(),
        );
        let mut all = self.used.lock();
        let used = all.entry(key).or_default();
        used.exchanges += 1;
        used.sent += usage.sent;
        used.received += usage.received;
        drop(all);
        self.log.used(usage);
    }
}
