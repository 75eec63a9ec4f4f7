//! Traces of requests.

use std::sync::Arc;

use futures_util::future::FutureExt;
use stockade_trace::{TraceCounts, Tracing};

use super::{Change, Prepared, Preparing, Reload, Subsystem};
use crate::error::{ServeError, TracingError};
use crate::plan;
use crate::running::Traced;
use crate::services::CurrentTracing;

/// Starts to trace where the configuration asks for it, and goes on where nothing of that has changed. What a replaced
/// one has recorded is still sent.
pub(crate) struct TracingSubsystem {
    pub(crate) counts: Arc<TraceCounts>,
    pub(crate) current: CurrentTracing,
}

struct PreparedTracing {
    current: CurrentTracing,
}

impl Prepared for PreparedTracing {
    fn commit(&mut self, change: &Change) {
        let traced = change.next.traced.as_ref();
        let tracing = traced.map(|traced| Arc::new(traced.tracing.clone()));
        self.current.store(tracing);
    }
}

impl Subsystem for TracingSubsystem {
    fn prepare<'s: 'r, 'r>(&'s mut self, reload: &'r mut Reload) -> Preparing<'s, 'r> {
        async move {
            let prepared = Box::new(PreparedTracing {
                current: Arc::clone(&self.current),
            });
            let Some(tracing) = &reload.next.config.tracing else {
                return Ok(prepared as Box<dyn Prepared>);
            };
            let options = plan::tracing::options(tracing, |name| std::env::var(name).ok())?;
            let old = reload.old.as_ref().and_then(|old| old.traced.as_ref());
            let same = old.filter(|old| old.options == options);
            let tracing = match same {
                Some(old) => old.tracing.clone(),
                None => Tracing::start(&options, Arc::clone(&self.counts))
                    .map_err(|error| ServeError::Tracing(TracingError::Options(error)))?,
            };
            reload.next.traced = Some(Traced { options, tracing });
            Ok(prepared as Box<dyn Prepared>)
        }
        .boxed()
    }
}
