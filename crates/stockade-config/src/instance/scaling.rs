//! How many mirrors an instance has, and when they are replaced.

use std::time::Duration;

use stockade_limits::Isolation;

use super::{Instance, InstanceLimits};
use crate::fields::Fields;
use crate::keys::{integer, number, size, time};
use crate::section::{Record, section};
use crate::tree::Message;

/// How many mirrors.
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
    /// How many to begin with; from `min` to `max`.
    pub initial: usize,
    /// CPU time of a mirror that is wanted, in percent of one core (that is `cpu_threshold` of the
    /// share a mirror may use).
    pub cpu_percent: f64,
    /// Requests running and waiting, for each mirror, that are wanted.
    pub requests_per_mirror: f64,
    /// The time over which load is averaged.
    pub stable_window: Duration,
    /// The time over which load is averaged to detect a burst.
    pub panic_window: Duration,
    /// How long without any request before the last mirror goes, where `min` is 0.
    pub idle: Duration,
}

section! {
    /// How the number of mirrors adjusts to the load. There are enough mirrors for both the
    /// CPU load and the requests, averaged over `stable_window`. During a burst, averaged
    /// over `panic_window`, the number only grows.
    pub(crate) struct AutoscaleKeys "autoscale" {
        /// The minimum number of mirrors. With 0, an idle instance has none.
        pub min_instances: usize = integer(0, 1000).default("1"),
        /// The maximum number of mirrors.
        pub max_instances: Option<usize> = integer(1, 1000)
            .derived("4, or the larger of `min_instances` and `mirrors`"),
        /// Percentage of the CPU that a mirror may use (`limits.cores`, at most one
        /// core). Above it, mirrors are added.
        pub cpu_threshold: f64 = number(1.0, 100.0).default("75"),
        /// Running and waiting requests per mirror. Above it, mirrors are added.
        pub queue_length: Option<f64> = number(0.1, 100_000.0).derived("half of `limits.concurrency`"),
        /// The time over which load is averaged.
        pub stable_window: Duration = time(1000, 3_600_000).default("60s"),
        /// The time over which load is averaged to detect a burst.
        pub panic_window: Duration = time(100, 600_000).default("6s"),
        /// Time without a request before the last mirror is stopped, if `min_instances`
        /// is 0.
        pub scale_to_zero_after: Duration = time(100, 86_400_000).default("60s"),
    }
}

section! {
    /// When a mirror is replaced by a new one.
    pub struct Recycle "recycle" {
        /// Replaces a mirror after this number of requests.
        pub requests: Option<u64> = integer(1, 1 << 50),
        /// Replaces a mirror that uses more memory than this; less than
        /// `limits.memory`.
        pub memory: Option<u64> = size(1 << 20, 1 << 40),
        /// Replaces a mirror of this age.
        pub age: Option<Duration> = time(1000, 31_536_000_000),
    }
}

/// The first of some sections that says how many mirrors there are; else the nearest, `own`.
pub(super) fn scaling_source<'a>(own: &Fields<'a>, wider: [&Fields<'a>; 2]) -> Fields<'a> {
    let says = |fields: &&Fields<'_>| fields.has("mirrors") || fields.has("autoscale");
    let nearest = std::iter::once(own).chain(wider).find(says);
    nearest.unwrap_or(own).alone()
}

pub(super) fn scaling(from: &Fields<'_>, fields: &Fields<'_>, limits: &InstanceLimits) -> Scaling {
    let mirrors: usize = from.get("mirrors");
    let Some(nearest) = from.switch("autoscale", false) else {
        return Scaling::Fixed(mirrors);
    };
    let auto = nearest.over(&fields.section("autoscale"));
    let keys = AutoscaleKeys::read(&auto);
    let min = keys.min_instances;
    let given = from.has("mirrors").then_some(mirrors);
    let usual = min.max(given.unwrap_or(0)).max(4);
    let max = keys.max_instances.unwrap_or(usual);
    if min > max {
        let what = format!("min_instances {min} is more than max_instances {max}");
        auto.refuse(
            "min_instances",
            Message::allowed(what, format!("0 to {max}")),
        );
    }
    if let Some(mirrors) = given.filter(|mirrors| !(min..=max).contains(mirrors) && min <= max) {
        let what = format!("{mirrors} mirrors to begin with lie outside of {min} to {max}");
        let allowed = format!("{min} to {max}, which autoscale allows");
        from.refuse("mirrors", Message::allowed(what, allowed));
    }
    if keys.panic_window > keys.stable_window {
        let what = "panic_window is longer than stable_window";
        let allowed = "a tenth of stable_window is usual";
        auto.refuse("panic_window", Message::allowed(what, allowed));
    }
    let half = (limits.concurrency as f64 / 2.0).max(1.0);
    Scaling::Auto(Autoscale {
        min,
        max,
        initial: given.unwrap_or(min),
        cpu_percent: keys.cpu_threshold * limits.cores.fraction(),
        requests_per_mirror: keys.queue_length.unwrap_or(half),
        stable_window: keys.stable_window,
        panic_window: keys.panic_window,
        idle: keys.scale_to_zero_after,
    })
}

/// Reports a `recycle.memory` that is never reached.
pub(super) fn check_recycle(fields: &Fields<'_>, recycle: &Recycle, limits: &InstanceLimits) {
    if recycle.memory.is_some_and(|memory| memory >= limits.memory) {
        let limit = crate::units::show_size(limits.memory);
        let what = format!("a mirror ends at its limit of {limit} before it is recycled");
        let allowed = format!("less than {limit}");
        fields
            .section("recycle")
            .refuse("memory", Message::allowed(what, allowed));
    }
}

/// Reports what has no meaning for an instance each of whose requests gets a mirror of its own.
pub(super) fn check_fresh(fields: &Fields<'_>, instance: &Instance) {
    if instance.isolation == Isolation::Thread {
        let what = "instances with `isolation: thread` share a worker, so no request can have one of its own";
        let allowed = "mirror, or `isolation: process` or `container`";
        fields.refuse("fresh", Message::allowed(what, allowed));
    }
    match &instance.scaling {
        Scaling::Auto(_) => {
            let what = "with `fresh: request` a mirror starts for each request, so `autoscale` would have no effect";
            let allowed =
                "`autoscale: false`, with `mirrors` as the number of mirrors that are kept ready";
            fields.refuse("autoscale", Message::allowed(what, allowed));
        }
        Scaling::Fixed(mirrors) if *mirrors > instance.limits.concurrency => {
            let most = instance.limits.concurrency;
            let what = format!(
                "{mirrors} mirrors are to be kept ready, and `limits.concurrency` allows {most} mirrors"
            );
            fields.refuse("mirrors", Message::allowed(what, format!("1 to {most}")));
        }
        Scaling::Fixed(_) => {}
    }
    if instance.recycle.requests.is_some() {
        let what = "with `fresh: request` a mirror ends after its first request";
        let recycle = fields.section("recycle");
        recycle.refuse("requests", Message::allowed(what, "none"));
    }
}
