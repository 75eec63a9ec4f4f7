//! One broker for each set of extra roots of trust: a root that one site trusts is trusted by no other.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use stockade_broker::{Audit, Broker, BrokerError, BrokerOptions};

/// All brokers there are.
pub(crate) struct Brokers {
    audit: Arc<dyn Audit>,
    by_roots: Mutex<HashMap<Vec<PathBuf>, Broker>>,
}

impl Brokers {
    pub(crate) fn new(audit: Arc<dyn Audit>) -> Self {
        Self {
            audit,
            by_roots: Mutex::default(),
        }
    }

    /// The broker that trusts these roots beside the public ones.
    pub(crate) fn with_roots(&self, roots: &[PathBuf]) -> Result<Broker, BrokerError> {
        let mut brokers = self.by_roots.lock();
        if let Some(broker) = brokers.get(roots) {
            return Ok(broker.clone());
        }
        let broker = Broker::new(BrokerOptions {
            extra_roots: roots.to_vec(),
            audit: Arc::clone(&self.audit),
            ..BrokerOptions::default()
        })?;
        brokers.insert(roots.to_vec(), broker.clone());
        Ok(broker)
    }

    /// Forgets what was kept for a site that is gone.
    pub(crate) fn forget(&self, site: &str) {
        for broker in self.by_roots.lock().values() {
            broker.forget(site);
        }
    }
}
