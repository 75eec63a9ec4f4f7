//! The log: where it goes, and what of requests and guests is in it.

use std::sync::Arc;

use futures_util::future::FutureExt;
use stockade_config::Config;

use super::{Change, Prepared, Preparing, Reload, Subsystem};
use crate::error::ServeError;
use crate::log::{Destination, LogChange, Sink};
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
            let options = plan::logging::options(config);
            let change = self.logs.log.prepare(&options);
            let change = change.map_err(|source| ServeError::log(options.destination, source))?;
            let next = Some((change, log_policy(config)?));
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
///
/// # Errors
/// When the file for access lines cannot be opened.
pub(crate) fn log_policy(config: &Config) -> Result<LogPolicy, ServeError> {
    let logging = &config.logging;
    let format = plan::logging::in_a_file(logging.format);
    let access = logging.access.as_ref().map(|access| {
        let sink = access.file.as_ref().map(|path| {
            let file = Destination::File(path.clone());
            Sink::start(file.clone(), format).map_err(|source| ServeError::log(file, source))
        });
        Ok::<_, ServeError>(AccessPolicy {
            sink: sink.transpose()?,
            query: access.query,
            client_address: access.client_address,
        })
    });
    Ok(LogPolicy {
        access: access.transpose()?,
        console: logging.console.clone(),
        redaction: plan::logging::redaction(config),
    })
}
