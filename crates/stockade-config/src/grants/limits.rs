//! The bounds that every kind of grant has, with defaults of its own.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::fields::Fields;
use crate::keys::{Key, Section, integer, size, time};

/// Bounds of the calls of one grant, all mirrors of its instance together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallLimits {
    /// Calls per second, refused ones included; as many may come at once.
    pub rate: NonZeroU32,
    /// Calls at the same time, until the streams of their results have ended.
    pub concurrent: usize,
    /// Calls that wait for others to finish.
    pub queue: usize,
    /// Time of a call, until its result is there.
    pub timeout: Duration,
    /// Calls per `total_period`.
    pub total_requests: Option<u64>,
    /// Bytes per `total_period`, of arguments and results together.
    pub total_bytes: Option<u64>,
    /// The period after which the totals start again; `None`: never while the process runs.
    pub total_period: Option<Duration>,
    /// Bytes of the arguments of one call, its streams included.
    pub max_request: u64,
    /// Bytes of the result of one call, its streams included.
    pub max_result: u64,
    /// Handles that one mirror may have open; 0 for a kind without handles.
    pub handles: usize,
}

/// What holds for a kind without the keys, as it would stand in the file.
pub(crate) struct CallDefaults {
    pub(crate) rate: &'static str,
    pub(crate) concurrent: &'static str,
    pub(crate) queue: &'static str,
    pub(crate) timeout: &'static str,
    pub(crate) max_request: &'static str,
    pub(crate) max_result: &'static str,
    /// `None` for a kind without handles, whose section has no such key.
    pub(crate) handles: Option<&'static str>,
}

/// How many keys there are, with the last one, `handles`.
const KEYS: usize = 10;

/// The keys of a kind's limits, for [`section`].
pub(crate) const fn keys(defaults: &CallDefaults) -> [Key; KEYS] {
    let handles = match defaults.handles {
        Some(handles) => handles,
        None => "0",
    };
    [
        integer(1, 1_000_000)
            .default(defaults.rate)
            .named("rate", "Calls per second. Further calls are refused."),
        integer(1, 100_000).default(defaults.concurrent).named(
            "concurrent",
            "Concurrent calls, until the streams of their results have ended.",
        ),
        integer(0, 100_000).default(defaults.queue).named(
            "queue",
            "Calls that wait for others to finish. Further calls are refused.",
        ),
        time(1, 86_400_000).default(defaults.timeout).named(
            "timeout",
            "Time of a call, including the time in the queue.",
        ),
        integer(0, 1 << 50).named(
            "total_requests",
            "Calls per `total_period`. Further calls are refused.",
        ),
        size(0, 1 << 50).named(
            "total_bytes",
            "Bytes of arguments and results per `total_period`. Further calls are refused.",
        ),
        time(1000, 31_536_000_000)
            .derived("as long as Stockade runs")
            .like(&["1day"])
            .named(
                "total_period",
                "The period after which the totals start again.",
            ),
        size(1, 1 << 40).default(defaults.max_request).named(
            "max_request",
            "Size of the arguments of a call, including streams.",
        ),
        size(1, 1 << 40).default(defaults.max_result).named(
            "max_result",
            "Size of the result of a call, including streams.",
        ),
        integer(0, 100_000).default(handles).named(
            "handles",
            "What one mirror may have open, such as transactions or subscriptions.",
        ),
    ]
}

/// The section of a kind's limits. `keys` is of [`keys`] with the same defaults.
pub(crate) const fn section(
    name: &'static str,
    keys: &'static [Key; KEYS],
    defaults: &CallDefaults,
) -> Section {
    let (all, without_handles): (&[Key], _) = (keys, keys.split_at(KEYS - 1).0);
    Section {
        name,
        doc: "Bounds of the calls of a grant, all mirrors of the instance together.",
        keys: match defaults.handles {
            Some(_) => all,
            None => without_handles,
        },
    }
}

/// Reads `limits` of a grant.
pub(crate) fn read(grant: &Fields<'_>) -> CallLimits {
    let limits = grant.section("limits");
    let has_handles = limits.knows("handles");
    CallLimits {
        rate: limits
            .get::<Option<NonZeroU32>>("rate")
            .unwrap_or(NonZeroU32::MIN),
        concurrent: limits.get("concurrent"),
        queue: limits.get("queue"),
        timeout: limits.get("timeout"),
        total_requests: limits.get("total_requests"),
        total_bytes: limits.get("total_bytes"),
        total_period: limits.get("total_period"),
        max_request: limits.get("max_request"),
        max_result: limits.get("max_result"),
        handles: if has_handles {
            limits.get("handles")
        } else {
            0
        },
    }
}

/// Declares `LIMITS`, the limits of a kind with its defaults: `call_limits! { "dns_limits", rate "100", … }`.
macro_rules! call_limits {
    ($name:literal, $($key:ident: $default:expr,)+) => {
        const DEFAULTS: $crate::grants::limits::CallDefaults =
            $crate::grants::limits::CallDefaults { $($key: $default,)+ };
        const LIMITS: $crate::keys::Section = $crate::grants::limits::section(
            $name,
            &$crate::grants::limits::keys(&DEFAULTS),
            &DEFAULTS,
        );
        /// The key `limits` of the kind's section.
        const LIMITS_KEY: $crate::keys::Key =
            $crate::keys::Key::of($crate::keys::Kind::Section(&LIMITS));
    };
}

pub(crate) use call_limits;
