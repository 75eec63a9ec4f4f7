//! What makes an instance.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use stockade_limits::{Fresh, IsolateOptions};

use crate::limits::InstanceLimits;

/// Everything that makes one instance.
#[derive(Debug, Clone)]
pub struct InstanceOptions {
    /// For logs and metrics.
    pub name: Arc<str>,
    /// What each mirror is created with. Its `env` must switch the guest's runtime to serving.
    pub isolate: Arc<IsolateOptions>,
    /// How many mirrors.
    pub scaling: Scaling,
    /// The limits of requests and guests.
    pub limits: InstanceLimits,
    /// When a mirror is replaced by a fresh one.
    pub recycle: Recycle,
    /// With [`Fresh::Request`] each request, call and scheduled run gets a mirror that was never used, which ends
    /// with the answer. [`Scaling::Fixed`] is then the number of mirrors that are kept ready, and
    /// [`InstanceLimits::concurrency`] the number of mirrors at most; [`Scaling::Auto`] counts as one.
    pub fresh: Fresh,
    /// When `scheduled` is called.
    pub crons: Vec<Cron>,
    /// Where the numbers of its mirrors come from.
    pub numbers: MirrorNumbers,
}

impl InstanceOptions {
    /// One mirror, default limits.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, isolate: impl Into<Arc<IsolateOptions>>) -> Self {
        Self {
            name: name.into(),
            isolate: isolate.into(),
            scaling: Scaling::Fixed(1),
            limits: InstanceLimits::default(),
            recycle: Recycle::default(),
            fresh: Fresh::default(),
            crons: Vec::new(),
            numbers: MirrorNumbers::default(),
        }
    }
}

/// Gives numbers to mirrors, from 0. A clone goes on with the same numbers: instances that have clones of the same one, such
/// as versions of a site's code, never have mirrors of the same number.
#[derive(Debug, Clone, Default)]
pub struct MirrorNumbers(Arc<AtomicU32>);

impl MirrorNumbers {
    /// A number that no mirror has had.
    pub(crate) fn next(&self) -> u32 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// How many mirrors an instance has.
#[derive(Debug, Clone, PartialEq)]
pub enum Scaling {
    /// Always this number; at least 1.
    Fixed(usize),
    /// As load demands.
    Auto(Autoscale),
}

/// How the number of mirrors follows load.
#[derive(Debug, Clone, PartialEq)]
pub struct Autoscale {
    /// The fewest; 0 lets an idle instance have none.
    pub min: usize,
    /// The most; at least 1 and at least `min`.
    pub max: usize,
    /// How many to begin with; what lies outside of `min` to `max` counts as the nearer one.
    pub initial: usize,
    /// CPU time of a mirror that is wanted, in percent of one core; above it there are to be more.
    pub cpu_percent: Option<f64>,
    /// Requests running and waiting, for each mirror, that are wanted.
    pub requests_per_mirror: f64,
    /// Over how long load is averaged.
    pub stable_window: Duration,
    /// Over how long load is averaged to notice a burst.
    pub panic_window: Duration,
    /// A burst: a load in the panic window of this many times the capacity of the present mirrors.
    pub panic_factor: f64,
    /// How long without any request before the last mirror goes, where `min` is 0.
    pub idle: Duration,
    /// How often to look.
    pub tick: Duration,
}

impl Default for Autoscale {
    /// Knative's windows: 60 s and 6 s, a burst at twice the capacity.
    fn default() -> Self {
        Self {
            min: 1,
            max: 4,
            initial: 0,
            cpu_percent: Some(75.0),
            requests_per_mirror: 64.0,
            stable_window: Duration::from_secs(60),
            panic_window: Duration::from_secs(6),
            panic_factor: 2.0,
            idle: Duration::from_secs(60),
            tick: Duration::from_secs(1),
        }
    }
}

/// When a mirror is replaced by a fresh one; no request is lost by it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Recycle {
    /// After this number of requests.
    pub requests: Option<u64>,
    /// Above this number of bytes of memory.
    pub memory: Option<u64>,
    /// After so long.
    pub age: Option<Duration>,
}

/// When to call `scheduled`; UTC.
#[derive(Debug, Clone)]
pub struct Cron {
    pub(crate) text: Arc<str>,
    pub(crate) times: croner::Cron,
}

impl Cron {
    /// A schedule of these times, and the five fields that they were written as: minute, hour, day of the month, month, day of the
    /// week.
    #[must_use]
    pub fn new(text: &str, times: croner::Cron) -> Self {
        Self {
            text: text.into(),
            times,
        }
    }

    /// The schedule as it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}
