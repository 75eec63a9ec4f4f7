//! The broker, for each site with the roots of trust of its own: a root that one site trusts is trusted by
//! no other.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use stockade_broker::{Audit, Broker, BrokerError, BrokerOptions};

/// One broker. Its views with further roots share what sites have spent, and their placeholders.
pub(crate) struct Brokers {
    audit: Arc<dyn Audit>,
    broker: Mutex<Option<Broker>>,
}

impl Brokers {
    pub(crate) fn new(audit: Arc<dyn Audit>) -> Self {
        Self {
            audit,
            broker: Mutex::default(),
        }
    }

    /// The broker that trusts these roots in addition to the public ones. The files are read now.
    pub(crate) fn with_roots(&self, roots: &[PathBuf]) -> Result<Broker, BrokerError> {
        self.broker()?.trusting(roots)
    }

    /// Forgets what was kept for a site that is gone.
    pub(crate) fn forget(&self, site: &str) {
        if let Some(broker) = &*self.broker.lock() {
            broker.forget(site);
        }
    }

    fn broker(&self) -> Result<Broker, BrokerError> {
        let mut broker = self.broker.lock();
        if let Some(broker) = &*broker {
            return Ok(broker.clone());
        }
        let made = Broker::new(BrokerOptions {
            audit: Arc::clone(&self.audit),
            ..BrokerOptions::default()
        })?;
        Ok(broker.insert(made).clone())
    }
}
