//! The listener for metrics and health.

use std::sync::Arc;

use futures_util::future::FutureExt;

use super::{Change, Prepared, Preparing, Reload, Subsystem};
use crate::error::ServeError;
use crate::status::{Status, StatusListener};

pub(crate) struct MetricsListener {
    status: Arc<dyn Status>,
    open: Option<StatusListener>,
}

impl MetricsListener {
    pub(crate) fn new(status: Arc<dyn Status>) -> Self {
        Self { status, open: None }
    }
}

/// What becomes of the listener.
enum Next {
    /// It answers at this path from now on.
    Keep(String),
    Open(StatusListener),
    Close,
}

struct PreparedListener<'a> {
    open: &'a mut Option<StatusListener>,
    next: Next,
}

impl Subsystem for MetricsListener {
    fn prepare<'s: 'r, 'r>(&'s mut self, reload: &'r mut Reload) -> Preparing<'s, 'r> {
        async move {
            let old = reload
                .old
                .as_ref()
                .and_then(|old| old.config.metrics.as_ref());
            let next = match (&reload.next.config.metrics, &self.open) {
                (None, _) => Next::Close,
                // The same as it is configured; its port may be one that the system chose.
                (Some(metrics), Some(open))
                    if old.is_some_and(|old| old.listen == metrics.listen) =>
                {
                    reload.next.metrics_address = Some(open.address);
                    Next::Keep(metrics.path.clone())
                }
                (Some(metrics), _) => {
                    let status = Arc::clone(&self.status);
                    let starting =
                        StatusListener::start(metrics.listen, metrics.path.clone(), status);
                    let listener = starting.await.map_err(|source| ServeError::Status {
                        address: metrics.listen,
                        source,
                    })?;
                    reload.next.metrics_address = Some(listener.address);
                    Next::Open(listener)
                }
            };
            let open = &mut self.open;
            Ok(Box::new(PreparedListener { open, next }) as Box<dyn Prepared>)
        }
        .boxed()
    }
}

impl Prepared for PreparedListener<'_> {
    fn commit(&mut self, _: &Change) {
        match std::mem::replace(&mut self.next, Next::Close) {
            Next::Keep(path) => {
                if let Some(open) = self.open {
                    open.move_to(path);
                }
            }
            Next::Open(listener) => *self.open = Some(listener),
            Next::Close => *self.open = None,
        }
    }
}
