//! What happens to one site's instance.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use stockade_config as config;
use stockade_instance::{
    CronOutcome, FetchError, MirrorEnd, MirrorEndReason, Observer, Refusal, ScaleCause, Used,
};
use stockade_limits::{Fresh, LineLimiter};
use stockade_protocol::{ConsoleLevel, GuestError, harmless};
use stockade_supervisor::TerminateReason;
use tracing::Level;

use super::Logs;
use super::usage::of_mirror;
use crate::log::Line;
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
    /// Of the lines about mirrors that start and end as they should.
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

    fn error_line(&self, level: Level, event: &str) -> Option<Line> {
        let now = Instant::now();
        let dropped = self.errors.lock().admit(ERRORS_PER_SECOND, now)?;
        let mut line = self.logs.log.line(level, event);
        line.text("instance", &self.name);
        if dropped > 0 {
            line.number("dropped_before", dropped);
        }
        Some(line)
    }
}

/// Adds where an error was thrown, and what it came of.
fn add_stack(line: &mut Line, error: &GuestError) {
    let stack = error.trace();
    // A headline alone is the error itself.
    if stack.contains('\n') {
        line.text("stack", &harmless(&stack, MAX_STACK));
    }
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
        let mut line = self.logs.log.line(plan::logging::level(level), "console");
        line.text("instance", &self.name).number("mirror", mirror);
        if dropped > 0 {
            line.number("dropped_before", dropped);
        }
        let shown = cut(text, policy.console.line_bytes);
        line.text("text", shown);
        if shown.len() < text.len() {
            line.number("cut_bytes", (text.len() - shown.len()) as u64);
        }
        self.logs.log.write_always(line);
    }

    fn uncaught(&self, mirror: u32, error: &GuestError) {
        self.metrics.uncaught.inc();
        if let Some(mut line) = self.error_line(Level::WARN, "uncaught") {
            line.number("mirror", mirror);
            line.text("error", &harmless(&error.to_string(), MAX_ERROR));
            add_stack(&mut line, error);
            self.logs.log.write(line);
        }
    }

    fn failed(&self, mirror: Option<u32>, request_id: &str, error: &FetchError) {
        self.metrics.failures.add(error.name(), 1);
        if matches!(error, FetchError::ClientGone) {
            return;
        }
        if let Some(mut line) = self.error_line(Level::WARN, "request_failed") {
            if let Some(mirror) = mirror {
                line.number("mirror", mirror);
            }
            if !request_id.is_empty() {
                line.text("request_id", request_id);
            }
            line.text("reason", error.name());
            line.text("error", &harmless(&error.to_string(), MAX_ERROR));
            if let FetchError::Threw(error) = error {
                add_stack(&mut line, error);
            }
            self.logs.log.write(line);
        }
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
        let mut line = self.logs.log.line(self.usual, "mirror_started");
        line.text("instance", &self.name)
            .number("mirror", mirror)
            .flag("cold", cold)
            .milliseconds("took_ms", took);
        self.logs.log.write(line);
    }

    fn start_failed(&self, mirror: u32, why: &str, retry_in: Duration) {
        self.metrics.start_failures.inc();
        let mut line = self.logs.log.line(Level::ERROR, "mirror_start_failed");
        line.text("instance", &self.name)
            .number("mirror", mirror)
            .text("error", &harmless(why, MAX_ERROR))
            .milliseconds("retry_in_ms", retry_in);
        self.logs.log.write(line);
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
        let mut line = self.logs.log.line(level, "mirror_ended");
        line.text("instance", &self.name)
            .number("mirror", end.mirror)
            .text("reason", end.reason.name());
        if !end.detail.is_empty() {
            line.text("detail", &harmless(&end.detail, MAX_ERROR));
        }
        if let Some((key, fix)) = way_out(end.reason) {
            line.text("key", key)
                .text("fix", fix)
                .milliseconds("activation_cpu_ms", end.usage.cpu)
                .milliseconds("activation_ms", end.usage.wall);
        }
        line.number("requests", end.requests)
            .number("in_flight", end.in_flight as u64)
            .milliseconds("cpu_ms", end.usage.cpu_total)
            .number("memory_bytes", end.usage.memory)
            .milliseconds("age_ms", end.age);
        self.logs.log.write(line);
        // A mirror that ends as it should is nobody's doing.
        if level == Level::WARN {
            self.logs
                .audit
                .of_guest("mirror_ended", &self.name, |record| {
                    record
                        .number("mirror", end.mirror.into())
                        .text("reason", end.reason.name())
                        .text("detail", &harmless(&end.detail, MAX_ERROR))
                        .number("in_flight", end.in_flight as u64)
                });
        }
        if self.wx_audit && asked_to_execute(end) {
            let mut line = self.logs.log.line(Level::ERROR, "wx_refused");
            line.text("instance", &self.name)
                .number("mirror", end.mirror)
                .text("detail", &harmless(&end.detail, MAX_ERROR));
            self.logs.log.write(line);
        }
    }

    fn scaled(&self, from: usize, to: usize, cause: ScaleCause) {
        let mut line = self.logs.log.line(Level::INFO, "scaled");
        line.text("instance", &self.name)
            .number("from", from as u64)
            .number("to", to as u64)
            .text("cause", cause.name());
        self.logs.log.write(line);
    }

    fn refused(&self, refusal: Refusal) {
        self.metrics.refusals.add(refusal.name(), 1);
    }

    fn retried(&self, from: u32) {
        self.metrics.retries.inc();
        if let Some(mut line) = self.error_line(Level::INFO, "request_retried") {
            line.number("from_mirror", from);
            self.logs.log.write(line);
        }
    }

    fn cron(&self, cron: &str, outcome: &CronOutcome) {
        let word = outcome.name();
        let level = match outcome {
            CronOutcome::Done { .. } => Level::INFO,
            CronOutcome::Failed { .. } | CronOutcome::Skipped => Level::WARN,
        };
        self.metrics.crons.add(word, 1);
        let mut line = self.logs.log.line(level, "cron");
        line.text("instance", &self.name)
            .text("cron", cron)
            .text("outcome", word);
        match outcome {
            CronOutcome::Done { took } => line.milliseconds("took_ms", *took),
            CronOutcome::Failed { why } => line.text("error", &harmless(why, MAX_ERROR)),
            CronOutcome::Skipped => &mut line,
        };
        self.logs.log.write(line);
    }

    fn misbehaved(&self, mirror: u32, what: &str) {
        self.metrics.misbehaved.inc();
        if let Some(mut line) = self.error_line(Level::WARN, "mirror_misbehaved") {
            line.number("mirror", mirror);
            line.text("what", &harmless(what, MAX_ERROR));
            self.logs.log.write(line);
        }
    }
}
