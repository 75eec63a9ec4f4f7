//! What instances and API keys use.

use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt};
use stockade_usage::{Ledger, LedgerOptions};

use super::{Change, Prepared, Preparing, Reload, Subsystem};
use crate::error::ServeError;
use crate::observe::Logs;
use crate::plan;

pub(crate) struct UsageSubsystem {
    pub(crate) logs: Arc<Logs>,
}

struct PreparedUsage<'a> {
    logs: &'a Logs,
    next: Option<Arc<Ledger>>,
    /// What is used no more, once the new ledger is in its place.
    last: Option<Arc<Ledger>>,
}

impl Subsystem for UsageSubsystem {
    fn prepare<'s: 'r, 'r>(&'s mut self, reload: &'r mut Reload) -> Preparing<'s, 'r> {
        async move {
            let logs = &*self.logs;
            let next = match &reload.next.config.usage {
                None => None,
                Some(config) => Some(open(plan::logging::usage(config), logs.usage.open()).await?),
            };
            let last = None;
            Ok(Box::new(PreparedUsage { logs, next, last }) as Box<dyn Prepared>)
        }
        .boxed()
    }
}

/// Opens a ledger, or goes on with the one that is open, if it is the same. Two may write to one file for a moment.
async fn open(options: LedgerOptions, old: Option<Arc<Ledger>>) -> Result<Arc<Ledger>, ServeError> {
    if let Some(old) = old.filter(|old| *old.options() == options) {
        return Ok(old);
    }
    let opening = tokio::task::spawn_blocking(move || Ledger::open(options));
    let opened = opening.await.map_err(|error| ServeError::System {
        what: "opening the store of usage",
        source: std::io::Error::other(error),
    })?;
    Ok(Arc::new(opened?))
}

impl Prepared for PreparedUsage<'_> {
    fn commit(&mut self, _: &Change) {
        let next = self.next.take();
        self.last = self.logs.usage.replace(next);
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
