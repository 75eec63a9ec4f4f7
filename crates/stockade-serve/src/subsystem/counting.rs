//! The counters of what clients use.

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::FutureExt;
use stockade_auth::Quotas;

use super::{Change, Prepared, Preparing, Reload, Subsystem};
use crate::error::ServeError;
use crate::plan;

/// Opens the counters for the first configuration that limits something. They go on from one configuration to the
/// next, so that a reload gives nobody his limits again.
#[derive(Default)]
pub(crate) struct Counting {
    open: Option<Open>,
}

#[derive(Clone)]
struct Open {
    capacity: usize,
    /// None: the counters end with the process.
    file: Option<PathBuf>,
    quotas: Quotas,
}

struct PreparedCounting<'a> {
    open: &'a mut Option<Open>,
    next: Option<Open>,
}

impl Subsystem for Counting {
    fn prepare<'s: 'r, 'r>(&'s mut self, reload: &'r mut Reload) -> Preparing<'s, 'r> {
        async move {
            let config = &reload.next.config;
            let (counts, keeps) = plan::gateway::counts(config);
            let (limits, capacity) = (&config.limits, config.limits.rate_counters);
            let next = match &self.open {
                _ if !counts => None,
                Some(open) => {
                    let other_file = open
                        .file
                        .as_ref()
                        .is_some_and(|file| *file != limits.quotas);
                    if open.capacity != capacity {
                        return Err(ServeError::Fixed("limits.rate_counters"));
                    }
                    if other_file {
                        return Err(ServeError::Fixed("limits.quotas"));
                    }
                    match keeps && open.file.is_none() {
                        // The first quota: from here on there is a file, and rates begin again once.
                        true => Some(open_counters(capacity, Some(limits.quotas.clone())).await?),
                        false => Some(open.clone()),
                    }
                }
                None => {
                    let file = keeps.then(|| limits.quotas.clone());
                    Some(open_counters(capacity, file).await?)
                }
            };
            reload.next.counters = next.as_ref().map(|open| Arc::clone(open.quotas.counters()));
            let open = &mut self.open;
            Ok(Box::new(PreparedCounting { open, next }) as Box<dyn Prepared>)
        }
        .boxed()
    }
}

async fn open_counters(capacity: usize, file: Option<PathBuf>) -> Result<Open, ServeError> {
    let opening = tokio::task::spawn_blocking(move || {
        let quotas = match &file {
            Some(file) => Quotas::open(file, capacity)?,
            None => Quotas::in_memory(capacity)?,
        };
        Ok(Open {
            capacity,
            file,
            quotas,
        })
    });
    opening.await.map_err(|error| ServeError::System {
        what: "opening the quotas",
        source: std::io::Error::other(error),
    })?
}

impl Prepared for PreparedCounting<'_> {
    fn commit(&mut self, _: &Change) {
        // Counters stay open while nothing is limited: what was used is not forgotten.
        if let Some(next) = self.next.take() {
            *self.open = Some(next);
        }
    }
}
