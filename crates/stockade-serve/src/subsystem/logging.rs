//! The log: where it goes, and what of requests and guests is in it.

use std::sync::Arc;

use futures_util::future::FutureExt;
use stockade_config::Config;

use super::{Change, Prepared, Preparing, Reload, Subsystem};
use crate::error::ServeError;
use crate::log::LogChange;
use crate::observe::{AccessPolicy, LogPolicy, Logs};
use crate::plan;

pub(crate) struct Logging {
    pub(crate) logs: Arc<Logs>,
}

struct PreparedLogging<'a> {
    logs: &'a Logs,
    /// Taken when it is committed.
    next: Option<(LogChange, LogPolicy)>,
}

impl Subsystem for Logging {
    fn prepare<'s: 'r, 'r>(&'s mut self, reload: &'r mut Reload) -> Preparing<'s, 'r> {
        async move {
            let config = &reload.next.config;
            let change = self.logs.log.prepare(&plan::logging::options(config));
            let next = Some((change.map_err(ServeError::log)?, log_policy(config)));
            let logs = &*self.logs;
            Ok(Box::new(PreparedLogging { logs, next }) as Box<dyn Prepared>)
        }
        .boxed()
    }
}

impl Prepared for PreparedLogging<'_> {
    fn commit(&mut self, _: &Change) {
        if let Some((change, policy)) = self.next.take() {
            self.logs.log.commit(change);
            self.logs.policy.store(Arc::new(policy));
        }
    }
}

/// What is logged of requests and guests.
pub(crate) fn log_policy(config: &Config) -> LogPolicy {
    let logging = &config.logging;
    LogPolicy {
        access: logging.access.as_ref().map(|access| AccessPolicy {
            query: access.query,
            client_address: access.client_address,
        }),
        console: logging.console.clone(),
        redaction: plan::logging::redaction(config),
    }
}
