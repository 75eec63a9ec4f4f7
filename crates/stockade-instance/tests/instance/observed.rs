//! An observer that records all events, and lets tests wait for them.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use stockade_instance::{CronOutcome, FetchError, MirrorEnd, Observer, Refusal, ScaleCause};
use stockade_protocol::{ConsoleLevel, GuestError};
use tokio::sync::Notify;

#[derive(Default)]
pub(crate) struct Observed {
    lines: Mutex<Vec<String>>,
    more: Notify,
}

impl Observed {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    fn note(&self, line: String) {
        self.lines.lock().push(line);
        self.more.notify_waiters();
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().clone()
    }

    pub(crate) fn count(&self, part: &str) -> usize {
        self.lines
            .lock()
            .iter()
            .filter(|line| line.contains(part))
            .count()
    }

    /// Waits for a line with this in it.
    pub(crate) async fn wait(&self, part: &str) -> String {
        self.wait_for(part, 1).await
    }

    /// Waits for a number of lines that contain a text; returns the last.
    pub(crate) async fn wait_for(&self, part: &str, count: usize) -> String {
        let wait = async {
            loop {
                let more = self.more.notified();
                let lines = self.lines();
                let found: Vec<&String> = lines.iter().filter(|line| line.contains(part)).collect();
                if found.len() >= count {
                    return found[count - 1].clone();
                }
                more.await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), wait)
            .await
            .unwrap_or_else(|_| panic!("no line with {part:?} in {:#?}", self.lines()))
    }
}

impl Observer for Observed {
    fn console(&self, mirror: u32, _level: ConsoleLevel, text: &str) {
        self.note(format!("console {mirror} {text}"));
        assert_ne!(text, "break down", "an error of Stockade's own");
    }
    fn uncaught(&self, mirror: u32, error: &GuestError) {
        self.note(format!("uncaught {mirror} {error}"));
    }
    fn failed(&self, mirror: Option<u32>, request_id: &str, error: &FetchError) {
        self.note(format!("failed {mirror:?} {request_id} {error}"));
    }
    fn started(&self, mirror: u32, cold: bool, _took: Duration) {
        self.note(format!("started {mirror} cold={cold}"));
    }
    fn start_failed(&self, mirror: u32, why: &str, retry_in: Duration) {
        self.note(format!(
            "start_failed {mirror} {} ms {why}",
            retry_in.as_millis()
        ));
    }
    fn ended(&self, end: &MirrorEnd) {
        self.note(format!(
            "ended {} {} {} requests={} in_flight={}",
            end.mirror,
            end.reason.name(),
            end.detail,
            end.requests,
            end.in_flight
        ));
    }
    fn scaled(&self, from: usize, to: usize, cause: ScaleCause) {
        self.note(format!("scaled {from}->{to} {}", cause.name()));
    }
    fn refused(&self, refusal: Refusal) {
        self.note(format!("refused {}", refusal.name()));
    }
    fn retried(&self, from: u32) {
        self.note(format!("retried {from}"));
    }
    fn cron(&self, cron: &str, outcome: &CronOutcome) {
        self.note(match outcome {
            CronOutcome::Done { .. } => format!("cron {cron} done"),
            CronOutcome::Failed { why } => format!("cron {cron} failed {why}"),
            CronOutcome::Skipped => format!("cron {cron} skipped"),
        });
    }
    fn misbehaved(&self, mirror: u32, what: &str) {
        self.note(format!("misbehaved {mirror} {what}"));
    }
}
