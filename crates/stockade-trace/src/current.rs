//! Which span the current task works for, where what it calls takes no headers.

use tokio::task::futures::TaskLocalFuture;
use tokio::task_local;

use crate::span::Trace;

task_local! {
    static CURRENT: Option<Trace>;
}

/// Runs `work` for this span; for none where there is none. Tasks that `work` starts work for none.
pub fn within<F: Future>(trace: Option<Trace>, work: F) -> TaskLocalFuture<Option<Trace>, F> {
    CURRENT.scope(trace, work)
}

/// The span that the current task works for.
#[must_use]
pub fn current() -> Option<Trace> {
    CURRENT.try_with(Clone::clone).ok().flatten()
}
