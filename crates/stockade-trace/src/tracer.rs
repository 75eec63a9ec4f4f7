//! What begins traces.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;

use crate::context;
use crate::options::{TraceError, TraceOptions};
use crate::recorder::{Recorder, TraceCounts};
use crate::span::Trace;

/// Begins traces, and sends them to a collector. Cheap to clone; what waits is sent after the last clone is gone.
#[derive(Clone)]
pub struct Tracing {
    recorder: Arc<Recorder>,
}

impl fmt::Debug for Tracing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracing").finish_non_exhaustive()
    }
}

impl Tracing {
    /// Starts to trace. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the options cannot be used. Whether there is a collector shows later, in `counts` and in the log.
    pub fn start(options: &TraceOptions, counts: Arc<TraceCounts>) -> Result<Self, TraceError> {
        let recorder = Recorder::start(options, counts)?;
        Ok(Self { recorder })
    }

    /// Begins the trace of a request. With `headers`, it continues the trace that they contain, and the sender has
    /// decided whether it is recorded.
    #[must_use]
    pub fn begin(&self, headers: Option<&HeaderMap>) -> Trace {
        Trace::begin(&self.recorder, headers.and_then(context::read))
    }

    /// Sends what waits, and returns when that is done or after `limit`.
    pub async fn flush(&self, limit: Duration) {
        let _ = tokio::time::timeout(limit, self.recorder.flush()).await;
    }
}
