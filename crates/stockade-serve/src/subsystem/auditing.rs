//! The audit log.

use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt};
use stockade_audit::{AuditLog, AuditOptions, Record};

use super::{Change, Prepared, Preparing, Reload, Subsystem};
use crate::error::ServeError;
use crate::observe::{Logs, OpenAudit};
use crate::plan;
use crate::running::Running;

pub(crate) struct Auditing {
    pub(crate) logs: Arc<Logs>,
}

struct PreparedAuditing<'a> {
    logs: &'a Logs,
    next: Option<Arc<OpenAudit>>,
    /// What is used no more, once the new log is in its place.
    last: Option<Arc<OpenAudit>>,
}

impl Subsystem for Auditing {
    fn prepare<'s: 'r, 'r>(&'s mut self, reload: &'r mut Reload) -> Preparing<'s, 'r> {
        async move {
            let logs = &*self.logs;
            let next = match &reload.next.config.audit {
                None => None,
                Some(config) => {
                    let options = plan::logging::audit(config);
                    let log = open(options.clone(), logs.audit.open()).await?;
                    Some(Arc::new(OpenAudit {
                        log,
                        options,
                        uses: config.uses,
                    }))
                }
            };
            let last = None;
            Ok(Box::new(PreparedAuditing { logs, next, last }) as Box<dyn Prepared>)
        }
        .boxed()
    }
}

/// Opens a log, or goes on with the one that is open, if it is the same.
///
/// # Errors
/// When the log cannot be opened, or the one that is open is to go on in the same folder in another way.
async fn open(options: AuditOptions, old: Option<Arc<OpenAudit>>) -> Result<AuditLog, ServeError> {
    match old {
        Some(old) if old.options == options => return Ok(old.log.clone()),
        Some(old) if old.options.folder == options.folder => {
            return Err(ServeError::Fixed(
                "audit, as long as its folder stays the same,",
            ));
        }
        _ => {}
    }
    let opening = tokio::task::spawn_blocking(move || AuditLog::open(options));
    let opened = opening.await.map_err(|error| ServeError::System {
        what: "opening the audit log",
        source: std::io::Error::other(error),
    })?;
    Ok(opened?)
}

impl Prepared for PreparedAuditing<'_> {
    fn commit(&mut self, change: &Change) {
        let same = |old: &Arc<Running>| Arc::ptr_eq(&old.config, &change.next.config);
        if change.old.as_ref().is_some_and(same) {
            // A deployment of code, which has a record of its own. The log stays the same too.
            return;
        }
        let audit = &self.logs.audit;
        let record = || match change.old {
            None => Record::new("server_started").text("version", env!("CARGO_PKG_VERSION")),
            Some(_) => Record::new("configuration_applied").text("change", &change.to_string()),
        };
        let is_other = match (audit.open(), &self.next) {
            (Some(old), Some(next)) => old.options != next.options,
            (old, next) => old.is_some() != next.is_some(),
        };
        if is_other {
            // The log that ends says what ended it.
            audit.record(record);
        }
        self.last = audit.replace(self.next.take());
        audit.record(record);
    }

    fn release<'a>(&'a mut self, _: &'a Change) -> BoxFuture<'a, ()> {
        let last = self.last.take();
        async move {
            // Its end waits for the disk.
            let _ = tokio::task::spawn_blocking(move || drop(last)).await;
        }
        .boxed()
    }
}
