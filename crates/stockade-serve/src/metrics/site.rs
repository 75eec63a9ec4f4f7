//! Figures of one site.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{Method, StatusCode};
use parking_lot::Mutex;
use prometheus_client::metrics::histogram::Histogram;
use stockade_instance::{Instance, InstanceStats, MirrorState};

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One count for each of a few words, which are the values of a label; others count as the last.
#[derive(Debug)]
pub(crate) struct Counts {
    words: &'static [&'static str],
    counts: Box<[Count]>,
}

impl Counts {
    pub(super) fn of(words: &'static [&'static str]) -> Self {
        Self {
            words,
            counts: words.iter().map(|_| Count::default()).collect(),
        }
    }

    pub(crate) fn add(&self, word: &str, more: u64) {
        let at = self.words.iter().position(|known| *known == word);
        let at = at.unwrap_or(self.words.len().saturating_sub(1));
        if let Some(count) = self.counts.get(at) {
            count.add(more);
        }
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.counts.iter().map(Count::value);
        self.words.iter().copied().zip(counts)
    }
}

pub(super) const METHODS: [&str; 8] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other",
];
pub(super) const STATUSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
pub(super) const STATES: [MirrorState; 3] = [
    MirrorState::Starting,
    MirrorState::Ready,
    MirrorState::Draining,
];

const STARTS: &[&str] = &["cold", "ahead"];
const ENDS: &[&str] = &[
    "cpu_limit_exceeded",
    "wall_limit_exceeded",
    "memory_limit_exceeded",
    "crashed",
    "policy_violation",
    "recycled_requests",
    "recycled_memory",
    "recycled_age",
    "recycled_stuck",
    "misbehaved",
    "scaled_down",
    "not_ready",
    "drained",
    "shutdown",
    "other",
];
const FAILURES: &[&str] = &[
    "busy",
    "not_started",
    "timed_out",
    "ended",
    "threw",
    "bad_response",
    "request_too_large",
    "client_gone",
    "draining",
    "other",
];
const REFUSALS: &[&str] = &["queue_full", "queue_wait", "draining", "other"];
const CRONS: &[&str] = &["done", "failed", "skipped"];
const OUTCOMES: &[&str] = &["ok", "error"];

/// Buckets of durations, in seconds.
const SECONDS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0,
];

/// Figures of one site. They go on when the site's instance is replaced by a changed one.
#[derive(Debug)]
pub(crate) struct SiteMetrics {
    pub(crate) name: Arc<str>,
    requests: [[Count; STATUSES.len()]; METHODS.len()],
    pub(crate) duration: Histogram,
    pub(crate) received: Count,
    pub(crate) sent: Count,
    pub(crate) starts: Counts,
    pub(crate) start_duration: Histogram,
    pub(crate) start_failures: Count,
    pub(crate) ends: Counts,
    pub(crate) failures: Counts,
    pub(crate) refusals: Counts,
    pub(crate) retries: Count,
    pub(crate) uncaught: Count,
    pub(crate) misbehaved: Count,
    pub(crate) console_lines: Count,
    pub(crate) console_dropped: Count,
    pub(crate) crons: Counts,
    pub(crate) state_operations: Counts,
    pub(crate) binding_calls: Counts,
    running: Mutex<Running>,
}

/// What runs now, or is draining.
#[derive(Default)]
struct Running {
    /// Each with its number.
    instances: Vec<(u64, Instance)>,
    /// CPU time of those that ended.
    cpu: Duration,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running")
            .field("instances", &self.instances.len())
            .finish()
    }
}

impl SiteMetrics {
    fn new(name: Arc<str>) -> Self {
        Self {
            name,
            requests: Default::default(),
            duration: Histogram::new(SECONDS),
            received: Count::default(),
            sent: Count::default(),
            starts: Counts::of(STARTS),
            start_duration: Histogram::new(SECONDS),
            start_failures: Count::default(),
            ends: Counts::of(ENDS),
            failures: Counts::of(FAILURES),
            refusals: Counts::of(REFUSALS),
            retries: Count::default(),
            uncaught: Count::default(),
            misbehaved: Count::default(),
            console_lines: Count::default(),
            console_dropped: Count::default(),
            crons: Counts::of(CRONS),
            state_operations: Counts::of(OUTCOMES),
            binding_calls: Counts::of(OUTCOMES),
            running: Mutex::default(),
        }
    }

    /// Counts a request that was answered.
    pub(crate) fn answered(&self, method: &Method, status: StatusCode, took: Duration) {
        let method = METHODS
            .iter()
            .position(|known| *known == method.as_str())
            .unwrap_or(METHODS.len() - 1);
        let status = usize::from(status.as_u16() / 100).clamp(1, STATUSES.len()) - 1;
        self.requests[method][status].add(1);
        self.duration.observe(took.as_secs_f64());
    }

    pub(super) fn requests(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        self.requests.iter().zip(METHODS).flat_map(|(row, method)| {
            row.iter()
                .zip(STATUSES)
                .map(move |(count, status)| (method, status, count.value()))
        })
    }

    /// The instance with this number, which none had before, runs; its figures are the site's.
    pub(crate) fn runs(&self, number: u64, instance: Instance) {
        self.running.lock().instances.push((number, instance));
    }

    /// That instance has ended; its CPU time stays counted.
    pub(crate) fn ended(&self, number: u64) {
        let mut running = self.running.lock();
        let at = running
            .instances
            .iter()
            .position(|(other, _)| *other == number);
        if let Some((_, instance)) = at.map(|at| running.instances.remove(at)) {
            running.cpu += instance.stats().cpu;
        }
    }

    /// Of all that run, added up; CPU time since the site's first instance.
    pub(super) fn stats(&self) -> InstanceStats {
        let running = self.running.lock();
        let mut all = InstanceStats {
            cpu: running.cpu,
            ..InstanceStats::default()
        };
        for stats in running
            .instances
            .iter()
            .map(|(_, instance)| instance.stats())
        {
            all.mirrors.extend(stats.mirrors);
            // Those that are draining want none.
            all.wanted = stats.wanted;
            all.queued += stats.queued;
            all.in_flight += stats.in_flight;
            all.cpu += stats.cpu;
            all.crashes_in_a_row = stats.crashes_in_a_row;
        }
        all
    }
}

/// All sites there are figures of.
#[derive(Debug, Default)]
pub(crate) struct Sites(Mutex<BTreeMap<Arc<str>, Arc<SiteMetrics>>>);

impl Sites {
    /// The figures of the site of this name, which begin at zero where there are none.
    pub(crate) fn site(&self, name: &str) -> Arc<SiteMetrics> {
        let mut sites = self.0.lock();
        if let Some(site) = sites.get(name) {
            return Arc::clone(site);
        }
        let name: Arc<str> = name.into();
        let site = Arc::new(SiteMetrics::new(Arc::clone(&name)));
        sites.insert(name, Arc::clone(&site));
        site
    }

    /// Forgets all but these.
    pub(crate) fn keep(&self, wanted: impl Fn(&str) -> bool) {
        self.0.lock().retain(|name, _| wanted(name));
    }

    pub(super) fn all(&self) -> Vec<Arc<SiteMetrics>> {
        self.0.lock().values().map(Arc::clone).collect()
    }
}
