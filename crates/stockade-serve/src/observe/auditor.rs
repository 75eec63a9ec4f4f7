//! What goes into the audit log, where there is one.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use stockade_audit::{AuditLog, AuditOptions, AuditStatus, Record};
use stockade_auth::KeyAction;
use stockade_limits::LineLimiter;

/// Records of one instance in a second that its guest brings about. The rest are counted: a tenant must not push the
/// records of others out of the files that are kept.
const RECORDS_PER_SECOND: u32 = 20;

/// How long a record may take to reach the disk.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(10);

/// Refusals of clients of one instance in a second that are recorded for each reason.
const REFUSALS_PER_SECOND: u32 = 1;

/// An audit log that is open.
pub(crate) struct OpenAudit {
    pub(crate) log: AuditLog,
    pub(crate) options: AuditOptions,
    /// Whether what was not refused is recorded, too.
    pub(crate) uses: bool,
}

/// Makes records and adds them to the log that is open.
#[derive(Default)]
pub(crate) struct Auditor {
    open: ArcSwapOption<OpenAudit>,
    /// A configuration is in use, so that it is known whether there is a log.
    decided: AtomicBool,
    limiters: Mutex<HashMap<Arc<str>, LineLimiter>>,
    /// By instance and reason, both of which are the configuration's and the program's own.
    refusals: Mutex<HashMap<(Arc<str>, &'static str), LineLimiter>>,
}

impl Auditor {
    /// The log that is open.
    pub(crate) fn open(&self) -> Option<Arc<OpenAudit>> {
        self.open.load_full()
    }

    /// The log that is open, or none where the configuration has none.
    fn decided(&self) -> Result<Option<Arc<OpenAudit>>, String> {
        // Before and after: what is read in between is then what a configuration has decided.
        let before = self.decided.load(SeqCst);
        let open = self.open();
        if before && self.decided.load(SeqCst) {
            return Ok(open);
        }
        Err("the server is starting or stopping".to_owned())
    }

    /// Goes on with another log. Returns the last one, whose end waits for the disk.
    pub(crate) fn replace(&self, next: Option<Arc<OpenAudit>>) -> Option<Arc<OpenAudit>> {
        let last = self.open.swap(next);
        self.decided.store(true, SeqCst);
        last
    }

    /// Goes on with no log, because the server ends. What is to be confirmed from here on is not.
    pub(crate) fn close(&self) -> Option<Arc<OpenAudit>> {
        self.decided.store(false, SeqCst);
        self.open.swap(None)
    }

    /// How the log that is open is doing.
    pub(crate) fn status(&self) -> Option<AuditStatus> {
        Some(self.open.load().as_ref()?.log.status())
    }

    /// Records what the operator or the server did.
    pub(crate) fn record(&self, record: impl FnOnce() -> Record) {
        if let Some(open) = &*self.open.load() {
            open.log.record(record());
        }
    }

    /// Records what is about to be done, and waits until that is on the disk. Without an audit log it is nothing to
    /// wait for.
    ///
    /// # Errors
    /// Why the record is not on the disk now, for a person.
    pub(crate) async fn confirm(&self, record: Record) -> Result<(), String> {
        let Some(open) = self.decided()? else {
            return Ok(());
        };
        let confirming = tokio::task::spawn_blocking(move || open.log.confirm(record));
        match tokio::time::timeout(CONFIRM_TIMEOUT, confirming).await {
            Ok(Ok(confirmed)) => confirmed.map_err(|error| error.to_string()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("its disk does not answer".to_owned()),
        }
    }

    /// Records what was done to an API key, and waits until that is on the disk.
    ///
    /// # Errors
    /// Why it is not on the disk, for a person.
    pub(crate) fn confirm_key(&self, action: &KeyAction) -> Result<(), String> {
        let Some(open) = self.decided()? else {
            return Ok(());
        };
        let record = Record::new("api_key")
            .text("action", &action.action)
            .text("key", &action.id.to_string())
            .number("done_at", action.at);
        open.log.confirm(record).map_err(|error| error.to_string())
    }

    /// Records that a client was refused, once a second for each instance and reason: a flood of refusals fills no
    /// disk. The next record has the number of the others.
    pub(crate) fn of_client(
        &self,
        instance: &Arc<str>,
        reason: &'static str,
        fill: impl FnOnce(Record) -> Record,
    ) {
        let record = || Record::new("client_refused").text("instance", instance);
        self.of_refused(instance, reason, record, fill);
    }

    /// Records that a client of the admin API was refused, once a second for each reason.
    pub(crate) fn of_admin_client(
        &self,
        reason: &'static str,
        fill: impl FnOnce(Record) -> Record,
    ) {
        // No instance has this name.
        let name = Arc::from("");
        self.of_refused(&name, reason, || Record::new("admin_refused"), fill);
    }

    fn of_refused(
        &self,
        name: &Arc<str>,
        reason: &'static str,
        record: impl FnOnce() -> Record,
        fill: impl FnOnce(Record) -> Record,
    ) {
        let open = self.open.load();
        let Some(open) = &*open else { return };
        let now = Instant::now();
        let admitted = {
            let mut limiters = self.refusals.lock();
            let limiter = limiters
                .entry((Arc::clone(name), reason))
                .or_insert_with(|| LineLimiter::new(now));
            limiter.admit(REFUSALS_PER_SECOND, now)
        };
        let Some(left_out) = admitted else { return };
        let mut record = fill(record().text("reason", reason));
        if left_out > 0 {
            record = record.number("left_out_before", left_out);
        }
        open.log.record(record);
    }

    /// Records what the guest of an instance brought about, up to a number in a second.
    pub(crate) fn of_guest(
        &self,
        event: &str,
        instance: &Arc<str>,
        fill: impl FnOnce(Record) -> Record,
    ) {
        let open = self.open.load();
        let Some(open) = &*open else { return };
        let now = Instant::now();
        let admitted = {
            let mut limiters = self.limiters.lock();
            let limiter = limiters
                .entry(Arc::clone(instance))
                .or_insert_with(|| LineLimiter::new(now));
            limiter.admit(RECORDS_PER_SECOND, now)
        };
        let Some(left_out) = admitted else { return };
        let mut record = fill(Record::new(event).text("instance", instance));
        if left_out > 0 {
            record = record.number("left_out_before", left_out);
        }
        open.log.record(record);
    }

    /// Records what a guest did that was not refused, where that is recorded.
    pub(crate) fn of_use(
        &self,
        event: &str,
        instance: &Arc<str>,
        fill: impl FnOnce(Record) -> Record,
    ) {
        if self.open.load().as_ref().is_some_and(|open| open.uses) {
            self.of_guest(event, instance, fill);
        }
    }

    /// Forgets an instance that is gone.
    pub(crate) fn forget(&self, instance: &str) {
        self.limiters.lock().remove(instance);
        self.refusals
            .lock()
            .retain(|(name, _), _| **name != *instance);
    }
}
