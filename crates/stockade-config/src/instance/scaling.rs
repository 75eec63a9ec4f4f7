//! Reads how many mirrors an instance has, and when they are replaced.

use super::keys::AUTOSCALE;
use super::read::Wider;
use super::{Autoscale, InstanceLimits, Recycle, Scaling};
use crate::fields::Fields;
use crate::keys::Kind;
use crate::tree::Remark;

/// The nearest section that says how many mirrors there are.
pub(super) fn scaling_source<'a>(own: &Fields<'a>, wider: &Wider<'a, '_>) -> Fields<'a> {
    let says = |fields: &Fields<'_>| fields.has("mirrors") || fields.has("autoscale");
    let layers = [own, wider.defaults, wider.scaling];
    let nearest = layers.into_iter().find(|fields| says(fields));
    nearest.unwrap_or(own).alone()
}

pub(super) fn scaling(from: &Fields<'_>, fields: &Fields<'_>, limits: &InstanceLimits) -> Scaling {
    let mirrors = from.count("mirrors");
    let Some(found) = from.find("autoscale") else {
        return Scaling::Fixed(mirrors);
    };
    if found.node.map().is_none() {
        match found.node.flag() {
            Some(false) => return Scaling::Fixed(mirrors),
            Some(true) => {}
            None => {
                let kind = Kind::Either(&[Kind::Flag, Kind::Section(&AUTOSCALE)]);
                fields.reader().wrong(&found, &kind);
            }
        }
    }
    let auto = from
        .section("autoscale")
        .over(Some(&fields.section("autoscale")));
    let min = auto.count("min_instances");
    let given = from.has("mirrors").then_some(mirrors);
    let max = auto.maybe_whole("max_instances").map_or_else(
        || min.max(given.unwrap_or(0)).max(4),
        |max| usize::try_from(max).unwrap_or(usize::MAX),
    );
    if min > max {
        let what = format!("min_instances {min} is more than max_instances {max}");
        auto.refuse(
            "min_instances",
            Remark::allowed(what, format!("0 to {max}")),
        );
    }
    if let Some(mirrors) = given.filter(|mirrors| !(min..=max).contains(mirrors) && min <= max) {
        let what = format!("{mirrors} mirrors to begin with lie outside of {min} to {max}");
        let allowed = format!("{min} to {max}, which autoscale allows");
        from.refuse("mirrors", Remark::allowed(what, allowed));
    }
    let (stable_window, panic_window) = (auto.time("stable_window"), auto.time("panic_window"));
    if panic_window > stable_window {
        let what = "panic_window is longer than stable_window";
        let allowed = "a tenth of stable_window is usual";
        auto.refuse("panic_window", Remark::allowed(what, allowed));
    }
    let threshold = auto.number("cpu_threshold");
    let queue = auto.maybe_number("queue_length");
    Scaling::Auto(Autoscale {
        min,
        max,
        initial: given.unwrap_or(min),
        cpu_percent: threshold * limits.cpu_share.fraction(),
        requests_per_mirror: queue.unwrap_or_else(|| (limits.concurrency as f64 / 2.0).max(1.0)),
        stable_window,
        panic_window,
        idle: auto.time("scale_to_zero_after"),
    })
}

pub(super) fn recycle(fields: &Fields<'_>, limits: &InstanceLimits) -> Recycle {
    let recycle = fields.section("recycle");
    let memory = recycle.maybe_size("memory");
    if memory.is_some_and(|memory| memory >= limits.memory) {
        let limit = crate::units::show_size(limits.memory);
        let what = format!("a mirror ends at its limit of {limit} before it is recycled");
        recycle.refuse(
            "memory",
            Remark::allowed(what, format!("less than {limit}")),
        );
    }
    Recycle {
        requests: recycle.maybe_whole("requests"),
        memory,
        age: recycle.maybe_time("age"),
    }
}
