//! What happens to one site's instance.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use stockade_config as config;
use stockade_http::Used;
use stockade_instance::{
    CronOutcome, FetchError, MirrorEnd, MirrorEndReason, Observer, Refusal, ScaleCause,
};
use stockade_limits::{Fresh, LineLimiter};
use stockade_protocol::{ConsoleLevel, GuestError, harmless};
use stockade_supervisor::TerminateReason;
use tracing::Level;

use super::Logs;
use super::usage::of_mirror;
use crate::log::{event_at, milliseconds, target};
use crate::metrics::SiteMetrics;
use crate::plan;

/// Bytes of a guest's error that are logged.
const MAX_ERROR: usize = 4 << 10;

/// Bytes of its stack, with what it came of.
const MAX_STACK: usize = 16 << 10;

/// Observes one site's instance.
pub(crate) struct SiteObserver {
    name: Arc<str>,
    metrics: Arc<SiteMetrics>,
    logs: Arc<Logs>,
    wx_audit: bool,
    /// The level of lines about mirrors that start and end as they should.
    usual: Level,
    console: Mutex<LineLimiter>,
    errors: Mutex<LineLimiter>,
}

/// Errors of one site that are logged in a second.
const ERRORS_PER_SECOND: u32 = 50;

fn level_of(level: ConsoleLevel) -> config::Level {
    match level {
        ConsoleLevel::Debug => config::Level::Debug,
        ConsoleLevel::Info => config::Level::Info,
        ConsoleLevel::Warn => config::Level::Warn,
        ConsoleLevel::Error => config::Level::Error,
    }
}

/// The start of a text.
fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

impl SiteObserver {
    /// With `wx_audit`, a worker that ended because it asked for executable memory is reported in a line
    /// of its own. With [`Fresh::Request`] a mirror starts and ends with each request, which is worth a line for
    /// debugging only.
    pub(crate) fn new(
        metrics: Arc<SiteMetrics>,
        logs: Arc<Logs>,
        wx_audit: bool,
        fresh: Fresh,
    ) -> Self {
        let now = Instant::now();
        Self {
            name: Arc::clone(&metrics.name),
            metrics,
            logs,
            wx_audit,
            usual: match fresh {
                Fresh::Mirror => Level::INFO,
                Fresh::Request => Level::DEBUG,
            },
            console: Mutex::new(LineLimiter::new(now)),
            errors: Mutex::new(LineLimiter::new(now)),
        }
    }

    /// Whether one more error may be logged, and how many were not before it, if any.
    fn admit_error(&self) -> Option<Option<u64>> {
        let now = Instant::now();
        let dropped = self.errors.lock().admit(ERRORS_PER_SECOND, now)?;
        Some((dropped > 0).then_some(dropped))
    }
}

/// Where an error was thrown, and what it came of; none where that is no more than the error itself.
fn stack(error: &GuestError) -> Option<String> {
    let stack = error.trace();
    stack.contains('\n').then(|| harmless(&stack, MAX_STACK))
}

/// The key of the configuration that sets the limit which a mirror broke, and what to do.
fn way_out(reason: MirrorEndReason) -> Option<(&'static str, &'static str)> {
    let MirrorEndReason::Terminated(reason) = reason else {
        return None;
    };
    match reason {
        TerminateReason::CpuLimit => Some((
            "limits.cpu",
            "raise it, or have the site compute less for one request",
        )),
        TerminateReason::WallLimit => Some((
            "limits.wall",
            "raise it, or have the site do less at a stretch",
        )),
        TerminateReason::MemoryLimit => Some((
            "limits.memory",
            "raise it, have the site keep less, or lower limits.concurrency",
        )),
        TerminateReason::Crashed | TerminateReason::PolicyViolation => None,
    }
}

/// Whether a mirror's worker was ended for a system call that makes memory executable.
fn asked_to_execute(end: &MirrorEnd) -> bool {
    end.reason == MirrorEndReason::Terminated(TerminateReason::PolicyViolation)
        && end.detail.starts_with("system call ")
        && end.detail.contains("PROT_EXEC")
}

impl Observer for SiteObserver {
    fn console(&self, mirror: u32, level: ConsoleLevel, text: &str) {
        let policy = self.logs.policy.load();
        let level = level_of(level);
        if policy.console.level.is_none_or(|least| level < least) {
            return;
        }
        let most = policy.console.lines_per_second;
        let Some(dropped) = self.console.lock().admit(most, Instant::now()) else {
            self.metrics.console_dropped.inc();
            return;
        };
        self.metrics.console_lines.inc();
        let shown = cut(text, policy.console.line_bytes);
        let cut_bytes = (text.len() - shown.len()) as u64;
        event_at!(
            plan::logging::level(level),
            name: "console",
            target: target::CONSOLE,
            instance = &*self.name,
            mirror,
            dropped_before = (dropped > 0).then_some(dropped),
            text = shown,
            cut_bytes = (cut_bytes > 0).then_some(cut_bytes),
        );
    }

    fn uncaught(&self, mirror: u32, error: &GuestError) {
        self.metrics.uncaught.inc();
        let Some(dropped_before) = self.admit_error() else {
            return;
        };
        tracing::warn!(
            name: "uncaught",
            target: target::INSTANCE,
            instance = &*self.name,
            mirror,
            dropped_before,
            error = &*harmless(&error.to_string(), MAX_ERROR),
            stack = stack(error).as_deref(),
        );
    }

    fn failed(&self, mirror: Option<u32>, request_id: &str, error: &FetchError) {
        self.metrics.failures.add(error.name(), 1);
        if matches!(error, FetchError::ClientGone) {
            return;
        }
        let Some(dropped_before) = self.admit_error() else {
            return;
        };
        let stack = match error {
            FetchError::Threw(error) => stack(error),
            _ => None,
        };
        tracing::warn!(
            name: "request_failed",
            target: target::INSTANCE,
            instance = &*self.name,
            mirror,
            dropped_before,
            request_id = (!request_id.is_empty()).then_some(request_id),
            reason = error.name(),
            error = &*harmless(&error.to_string(), MAX_ERROR),
            stack = stack.as_deref(),
        );
    }

    fn divides_use(&self) -> bool {
        self.logs.usage.is_open()
    }

    fn used(&self, key: Option<u64>, used: &Used) {
        self.logs.usage.add(&self.name, key, &of_mirror(used));
    }

    fn started(&self, mirror: u32, cold: bool, took: Duration) {
        self.metrics
            .starts
            .add(if cold { "cold" } else { "ahead" }, 1);
        self.metrics.start_duration.observe(took.as_secs_f64());
        event_at!(
            self.usual,
            name: "mirror_started",
            target: target::INSTANCE,
            instance = &*self.name,
            mirror,
            cold,
            took_ms = milliseconds(took),
        );
    }

    fn start_failed(&self, mirror: u32, why: &str, retry_in: Duration) {
        self.metrics.start_failures.inc();
        tracing::error!(
            name: "mirror_start_failed",
            target: target::INSTANCE,
            instance = &*self.name,
            mirror,
            error = &*harmless(why, MAX_ERROR),
            retry_in_ms = milliseconds(retry_in),
        );
    }

    fn ended(&self, end: &MirrorEnd) {
        self.metrics.ends.add(end.reason.name(), 1);
        let level = match end.reason {
            MirrorEndReason::Terminated(_)
            | MirrorEndReason::Misbehaved
            | MirrorEndReason::NotReady
            | MirrorEndReason::RecycledForStuck => Level::WARN,
            _ => self.usual,
        };
        let detail = harmless(&end.detail, MAX_ERROR);
        let way_out = way_out(end.reason);
        event_at!(
            level,
            name: "mirror_ended",
            target: target::INSTANCE,
            instance = &*self.name,
            mirror = end.mirror,
            reason = end.reason.name(),
            detail = (!detail.is_empty()).then_some(&*detail),
            key = way_out.map(|(key, _)| key),
            fix = way_out.map(|(_, fix)| fix),
            activation_cpu_ms = way_out.map(|_| milliseconds(end.usage.cpu)),
            activation_ms = way_out.map(|_| milliseconds(end.usage.wall)),
            requests = end.requests,
            in_flight = end.in_flight as u64,
            cpu_ms = milliseconds(end.usage.cpu_total),
            memory_bytes = end.usage.memory,
            age_ms = milliseconds(end.age),
        );
        // A mirror that ends as it should is nobody's doing.
        if level == Level::WARN {
            self.logs
                .audit
                .of_guest("mirror_ended", &self.name, |record| {
                    record
                        .number("mirror", end.mirror.into())
                        .text("reason", end.reason.name())
                        .text("detail", &detail)
                        .number("in_flight", end.in_flight as u64)
                });
        }
        if self.wx_audit && asked_to_execute(end) {
            tracing::error!(
                name: "wx_refused",
                target: target::INSTANCE,
                instance = &*self.name,
                mirror = end.mirror,
                detail = &*detail,
            );
        }
    }

    fn scaled(&self, from: usize, to: usize, cause: ScaleCause) {
        tracing::info!(
            name: "scaled",
            target: target::INSTANCE,
            instance = &*self.name,
            from,
            to,
            cause = cause.name(),
        );
    }

    fn refused(&self, refusal: Refusal) {
        self.metrics.refusals.add(refusal.name(), 1);
    }

    fn retried(&self, from: u32) {
        self.metrics.retries.inc();
        if let Some(dropped_before) = self.admit_error() {
            tracing::info!(
                name: "request_retried",
                target: target::INSTANCE,
                instance = &*self.name,
                dropped_before,
                from_mirror = from,
            );
        }
    }

    fn cron(&self, cron: &str, outcome: &CronOutcome) {
        let word = outcome.name();
        let level = match outcome {
            CronOutcome::Done { .. } => Level::INFO,
            CronOutcome::Failed { .. } | CronOutcome::Skipped => Level::WARN,
        };
        self.metrics.crons.add(word, 1);
        let (took, error) = match outcome {
            CronOutcome::Done { took } => (Some(milliseconds(*took)), None),
            CronOutcome::Failed { why } => (None, Some(harmless(why, MAX_ERROR))),
            CronOutcome::Skipped => (None, None),
        };
        event_at!(
            level,
            name: "cron",
            target: target::INSTANCE,
            instance = &*self.name,
            cron,
            outcome = word,
            took_ms = took,
            error = error.as_deref(),
        );
    }

    fn misbehaved(&self, mirror: u32, what: &str) {
        self.metrics.misbehaved.inc();
        if let Some(dropped_before) = self.admit_error() {
            tracing::warn!(
                name: "mirror_misbehaved",
                target: target::INSTANCE,
                instance = &*self.name,
                dropped_before,
                mirror,
                what = &*harmless(what, MAX_ERROR),
            );
        }
    }
}
