//! What the broker refused and what it did.

use std::sync::Arc;
use std::time::SystemTime;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use stockade_broker::{Action, Audit, LogAudit, Moved, Outcome, Reason, Refusal, Usage};
use stockade_http::account_in_charge;
use stockade_usage::Counts;
use strum::VariantNames;

use super::Logs;
use super::usage::of_egress;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    instance: Arc<str>,
    action: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Used {
    instance: Arc<str>,
    action: &'static str,
    outcome: &'static str,
}

/// Counts, and writes refusals to the log.
pub(crate) struct EgressMetrics {
    log: LogAudit,
    logs: Arc<Logs>,
    refused: Family<Refused, Counter>,
    requests: Family<Used, Counter>,
    sent: Family<Used, Counter>,
    received: Family<Used, Counter>,
}

impl EgressMetrics {
    pub(crate) fn register(registry: &mut Registry, logs: Arc<Logs>) -> Self {
        let metrics = Self {
            log: LogAudit::default(),
            logs,
            refused: Family::default(),
            requests: Family::default(),
            sent: Family::default(),
            received: Family::default(),
        };
        registry.register(
            "stockade_egress_refused",
            "What guests wanted of the network or of folders and did not get",
            metrics.refused.clone(),
        );
        registry.register(
            "stockade_egress_requests",
            "Outbound requests of guests",
            metrics.requests.clone(),
        );
        registry.register(
            "stockade_egress_sent_bytes",
            "Bytes of bodies and messages that guests sent",
            metrics.sent.clone(),
        );
        registry.register(
            "stockade_egress_received_bytes",
            "Bytes of bodies and messages that guests received",
            metrics.received.clone(),
        );
        metrics
    }

    /// Forgets a site that is gone.
    pub(crate) fn forget(&self, site: &str) {
        self.logs.refused.forget(site);
        let instance: Arc<str> = site.into();
        for action in Action::VARIANTS {
            for reason in Reason::VARIANTS {
                self.refused.remove(&Refused {
                    instance: Arc::clone(&instance),
                    action,
                    reason,
                });
            }
            for outcome in Outcome::VARIANTS {
                let used = Used {
                    instance: Arc::clone(&instance),
                    action,
                    outcome,
                };
                for family in [&self.requests, &self.sent, &self.received] {
                    family.remove(&used);
                }
            }
        }
    }
}

impl Audit for EgressMetrics {
    fn refused(&self, refusal: &Refusal) {
        if let Some(account) = account_in_charge() {
            account.refused();
        }
        let refused = Refused {
            instance: Arc::clone(&refusal.instance),
            action: refusal.action.as_str(),
            reason: refusal.reason.as_str(),
        };
        self.refused.get_or_create(&refused).inc();
        self.log.refused(refusal);
        self.logs.refused.add(refusal, SystemTime::now());
        let audit = &self.logs.audit;
        audit.of_guest("egress_refused", &refusal.instance, |mut record| {
            record = record
                .text("action", refusal.action.as_str())
                .text("target", &refusal.target)
                .text("reason", refusal.reason.as_str());
            if let Some(rule) = &refusal.rule {
                record = record.text("rule", rule);
            }
            match refusal.address {
                Some(address) => record.text("address", &address.to_string()),
                None => record,
            }
        });
    }

    fn moved(&self, moved: &Moved) {
        let counts = Counts {
            egress_sent: moved.sent,
            egress_received: moved.received,
            ..Counts::default()
        };
        self.logs.usage.add(&moved.instance, moved.key, &counts);
    }

    fn used(&self, usage: &Usage) {
        let used = Used {
            instance: Arc::clone(&usage.instance),
            action: usage.action.as_str(),
            outcome: usage.outcome.as_str(),
        };
        self.requests.get_or_create(&used).inc();
        self.sent.get_or_create(&used).inc_by(usage.sent);
        self.received.get_or_create(&used).inc_by(usage.received);
        self.log.used(usage);
        if let Some(counts) = of_egress(usage) {
            self.logs.usage.add(&usage.instance, usage.key, &counts);
        }
        let audit = &self.logs.audit;
        audit.of_use("egress_used", &usage.instance, |record| {
            let record = record
                .text("action", usage.action.as_str())
                .text("target", &usage.target)
                .text("rule", &usage.rule)
                .text("outcome", usage.outcome.as_str());
            let record = match usage.status {
                Some(status) => record.number("status", status.into()),
                None => record,
            };
            record
                .number("sent", usage.sent)
                .number("received", usage.received)
        });
    }
}
