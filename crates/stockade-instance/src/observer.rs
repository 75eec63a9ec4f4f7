//! What an instance reports about itself.

use std::time::Duration;

use stockade_http::Used;
use stockade_protocol::{ConsoleLevel, GuestError};
use stockade_supervisor::{ResourceUsage, TerminateReason};
use strum::{IntoStaticStr, VariantArray, VariantNames};

use crate::error::{FetchError, Refusal};

/// Observes one instance. All methods are called on the way of requests: they must be quick
/// and must not wait. Texts of the guest are bounded, and hostile.
pub trait Observer: Send + Sync + 'static {
    /// A line of a mirror's console.
    fn console(&self, _mirror: u32, _level: ConsoleLevel, _text: &str) {}
    /// An exception or rejection that nothing in the guest caught.
    fn uncaught(&self, _mirror: u32, _error: &GuestError) {}
    /// A request got no response of the guest. `request_id` is empty where no client asked.
    fn failed(&self, _mirror: Option<u32>, _request_id: &str, _error: &FetchError) {}
    /// Whether what mirrors use is to be divided among the API keys of requests that begin now.
    fn divides_use(&self) -> bool {
        false
    }
    /// What a mirror has used since the last time for clients with the API key of this number, or for none. Comes about
    /// once in a second and when the mirror is gone, and adds up to all that the mirror uses.
    fn used(&self, _key: Option<u64>, _used: &Used) {}
    /// A mirror is ready. `cold`: a request waits for it.
    fn started(&self, _mirror: u32, _cold: bool, _took: Duration) {}
    /// A mirror could not be started; another attempt follows.
    fn start_failed(&self, _mirror: u32, _why: &str, _retry_in: Duration) {}
    /// A mirror has ended.
    fn ended(&self, _end: &MirrorEnd) {}
    /// Another number of mirrors is wanted.
    fn scaled(&self, _from: usize, _to: usize, _cause: ScaleCause) {}
    /// A request was turned away without reaching a mirror.
    fn refused(&self, _refusal: Refusal) {}
    /// A request goes to another mirror, for its first one ended.
    fn retried(&self, _from: u32) {}
    /// A scheduled run began, ended, or was left out.
    fn cron(&self, _cron: &str, _outcome: &CronOutcome) {}
    /// A mirror broke the guest protocol, which only native code in it can do, or went over a bound.
    fn misbehaved(&self, _mirror: u32, _what: &str) {}
}

/// Ignores everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl Observer for Unobserved {}

/// Why a mirror ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum MirrorEndReason {
    /// The runtime ended it.
    Terminated(TerminateReason),
    /// It had served as many requests as one mirror may.
    #[strum(serialize = "recycled_requests")]
    RecycledForRequests,
    /// It held more memory than its high-water mark.
    #[strum(serialize = "recycled_memory")]
    RecycledForMemory,
    /// It was as old as one may get.
    #[strum(serialize = "recycled_age")]
    RecycledForAge,
    /// Requests were stuck in it.
    #[strum(serialize = "recycled_stuck")]
    RecycledForStuck,
    /// It broke the guest protocol or went over a bound.
    Misbehaved,
    /// It has answered the one request that it was for.
    Served,
    /// Fewer mirrors are wanted.
    ScaledDown,
    /// The operator had it replaced.
    Restarted,
    /// The operator ended it.
    Killed,
    /// It was not ready in time, or its code failed.
    NotReady,
    /// The instance ended.
    Drained,
    /// The whole sandbox was shut down.
    Shutdown,
}

impl MirrorEndReason {
    /// For logs and labels: where the runtime ended it, the name of the runtime's reason.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Terminated(reason) => reason.name(),
            other => other.into(),
        }
    }

    /// All names, for metrics that list every label from the start.
    pub fn names() -> impl Iterator<Item = &'static str> {
        let terminated: &str = Self::Terminated(TerminateReason::Crashed).into();
        let others = Self::VARIANTS.iter().copied();
        let others = others.filter(move |name| *name != terminated);
        let of_runtime = TerminateReason::VARIANTS.iter();
        of_runtime.map(|reason| reason.name()).chain(others)
    }
}

/// The end of one mirror.
#[derive(Debug, Clone)]
pub struct MirrorEnd {
    /// Which.
    pub mirror: u32,
    /// Why.
    pub reason: MirrorEndReason,
    /// More, for a person.
    pub detail: String,
    /// What it had used.
    pub usage: ResourceUsage,
    /// Requests that it was given.
    pub requests: u64,
    /// Requests that it had not answered.
    pub in_flight: usize,
    /// How long it lived.
    pub age: Duration,
}

/// Why the wanted number of mirrors changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum ScaleCause {
    /// A request came, and there was no mirror.
    FirstRequest,
    /// More load than in a long while; never followed by less within the panic window.
    Panic,
    /// Load over the stable window.
    Load,
    /// CPU time over the stable window.
    Cpu,
    /// No requests.
    Idle,
    /// The operator started or drained a mirror.
    Operator,
}

impl ScaleCause {
    /// For logs and labels.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// What became of a scheduled run.
#[derive(Debug, Clone, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum CronOutcome {
    /// It ran to its end.
    Done {
        /// For so long.
        took: Duration,
    },
    /// The handler threw, or its mirror ended.
    Failed {
        /// Why.
        why: String,
    },
    /// It was left out: the one before still runs.
    Skipped,
}

impl CronOutcome {
    /// For logs and labels.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.into()
    }
}
