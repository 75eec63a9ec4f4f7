//! What the listener for metrics says.

use crate::metrics::Metrics;
use crate::running::Snapshot;
use crate::status::Status;

pub(super) struct Health {
    pub(super) metrics: Metrics,
    pub(super) running: Snapshot,
}

impl Status for Health {
    fn metrics(&self) -> String {
        self.metrics.text()
    }

    fn ready(&self) -> Result<(), String> {
        if self.metrics.process.is_draining() {
            return Err("draining\n".to_owned());
        }
        let Some(running) = self.running.load_full() else {
            return Err("starting\n".to_owned());
        };
        let mut missing = String::new();
        for (name, traffic) in &running.traffic {
            // Why is in the log: it may hold what the guest said.
            for site in traffic.sites().filter(|site| !site.is_ready()) {
                missing.push_str(&match traffic.shares.len() {
                    1 => format!("{name}: no mirror is ready\n"),
                    _ => format!("{name}: no mirror of version {} is ready\n", site.version),
                });
            }
        }
        if missing.is_empty() {
            Ok(())
        } else {
            Err(missing)
        }
    }
}
