//! What a server adds to an audit log: its start and stop, clients that were refused, and how isolates ended.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use stockade_audit::{AuditLog, Record};
use stockade_callers::{OnRefused, Refused, RefusedFor};
use stockade_limits::LineLimiter;
use stockade_supervisor::End;

/// Refusals of clients in a second that are recorded for each reason: a flood of them fills no disk. The next record has the
/// number of the others.
const REFUSALS_PER_SECOND: u32 = 1;

/// How long the last records may take to reach the disk.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a server's records go.
#[derive(Clone)]
pub struct RpcAudit {
    /// The log.
    pub log: AuditLog,
    /// The name of the server in it.
    pub name: Arc<str>,
    /// Records what is still to be recorded before the stop is.
    pub rest: Option<Arc<dyn Fn() + Send + Sync>>,
}

impl std::fmt::Debug for RpcAudit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RpcAudit").finish_non_exhaustive()
    }
}

/// Adds records to an audit log.
pub(crate) struct Auditor {
    to: RpcAudit,
    /// One for each reason.
    refusals: [Mutex<LineLimiter>; 4],
}

impl Auditor {
    pub(crate) fn new(to: RpcAudit) -> Self {
        let now = Instant::now();
        Self {
            to,
            refusals: [(); 4].map(|()| Mutex::new(LineLimiter::new(now))),
        }
    }

    fn about(&self, event: &str) -> Record {
        Record::new(event).text("instance", &self.to.name)
    }

    pub(crate) fn started(&self) {
        let record = self.about("server_started");
        self.to
            .log
            .record(record.text("version", env!("CARGO_PKG_VERSION")));
    }

    /// Records the stop, and waits until that and all before it is on the disk.
    pub(crate) async fn stopped(&self) {
        if let Some(rest) = &self.to.rest {
            rest();
        }
        let (log, record) = (self.to.log.clone(), self.about("server_stopped"));
        let confirming = tokio::task::spawn_blocking(move || log.confirm(record));
        match tokio::time::timeout(CONFIRM_TIMEOUT, confirming).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::error!("the last records are not written: {error}"),
            Ok(Err(_)) | Err(_) => {
                tracing::error!("the last records are not written: the disk does not answer");
            }
        }
    }

    /// Takes what clients are refused.
    pub(crate) fn on_refused(self: Arc<Self>) -> OnRefused {
        Arc::new(move |refused| self.refused(refused))
    }

    /// Records that a client was refused, unless others were for the same reason in this second.
    fn refused(&self, refused: &Refused<'_>) {
        // The words that `stockade serve` has in its log.
        let [api_key, guesses, scope, limit] = &self.refusals;
        let (reason, limiter) = match refused.reason {
            RefusedFor::ApiKey => ("api_key", api_key),
            RefusedFor::Guesses => ("api_key_guesses", guesses),
            RefusedFor::Scope => ("scope", scope),
            RefusedFor::Limit => ("rate_limit", limit),
        };
        let admitted = limiter.lock().admit(REFUSALS_PER_SECOND, Instant::now());
        let Some(left_out) = admitted else { return };
        let mut record = self
            .about("client_refused")
            .text("reason", reason)
            .text("client", &refused.client.to_string());
        if let Some(key) = refused.key {
            record = record.text("key", &key.to_string());
        }
        if let Some(function) = refused.function {
            record = record.text("function", function);
        }
        if left_out > 0 {
            record = record.number("left_out_before", left_out);
        }
        self.to.log.record(record);
    }

    /// Records why the runtime ended an isolate: a limit, a violation of policy, a crash. One that ends as it should is
    /// nobody's doing.
    pub(crate) fn ended(&self, end: Option<&End>) {
        if let Some(End::Terminated { reason, detail, .. }) = end {
            let record = self.about("isolate_ended").text("reason", reason.name());
            self.to.log.record(record.text("detail", detail));
        }
    }
}
