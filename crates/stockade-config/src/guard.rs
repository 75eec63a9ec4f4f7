//! The data guard: what an instance may reach.

mod keys;
mod read;

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use stockade_http::{HostPattern, Scheme};

use crate::mistake::shown;
use crate::tree::Remark;

pub(crate) use keys::DATA_GUARD;
pub(crate) use read::{guard_host, read};

/// What an instance may reach. Without rules: nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct DataGuard {
    /// A request needs one that allows it.
    pub rules: Vec<GuardRule>,
    /// Private, loopback, link-local and other special networks that may be reached all the same,
    /// where a rule allows the host.
    pub allow_private: Vec<IpNet>,
    /// Networks that are never reached, whatever else allows them.
    pub refuse: Vec<IpNet>,
    /// Roots to trust beside the public ones; PEM.
    pub ca: Vec<PathBuf>,
    /// Until a connection stands, TLS included.
    pub connect_timeout: Duration,
    /// Until the head of the response is there.
    pub response_timeout: Duration,
    /// Between two pieces of a body.
    pub idle_timeout: Duration,
    /// For a whole exchange over HTTP, from the guest's call to the last byte.
    pub timeout: Duration,
    /// Bytes of one request's body.
    pub max_request: u64,
    /// Bytes of one response's body as received.
    pub max_response: u64,
    /// Bytes of one response's body after decompression.
    pub max_decompressed: u64,
    /// Requests at the same time.
    pub concurrent: usize,
    /// Requests that wait for others to end; more are refused.
    pub queue: usize,
    /// WebSockets at the same time.
    pub websockets: usize,
    /// Requests a second.
    pub rate: Option<u32>,
    /// Bytes a second, both directions together.
    pub bandwidth: Option<u64>,
    /// Bytes in each `total_period`, both directions together.
    pub total_bytes: Option<u64>,
    /// Requests in each `total_period`.
    pub total_requests: Option<u64>,
    /// How often the totals begin again; `None` is never while Stockade runs.
    pub total_period: Option<Duration>,
}

/// One thing that is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardRule {
    /// For logs: the entry of `outbound_whitelist` as written, or the rule's name.
    pub name: String,
    /// Names allowed, never addresses; [`HostPattern::Any`] is every name. With `addresses` beside them, all addresses of a name must be inside these.
    pub hosts: Vec<HostPattern>,
    /// Addresses allowed, for URLs that name an address. No name is looked up for them alone.
    pub addresses: Vec<IpNet>,
    /// Ports allowed; never empty.
    pub ports: Vec<PortRange>,
    /// Methods allowed, upper case; empty allows any.
    pub methods: Vec<String>,
    /// Schemes allowed; never empty. WebSockets count as the scheme they begin with.
    pub schemes: Vec<Scheme>,
}

/// Ports from `first` to `last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortRange {
    /// The lowest.
    pub first: u16,
    /// The highest.
    pub last: u16,
}

impl PortRange {
    /// A single port.
    #[must_use]
    pub fn one(port: u16) -> Self {
        Self {
            first: port,
            last: port,
        }
    }

    /// Whether the port is in the range.
    #[must_use]
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }

    pub(crate) fn parse(text: &str) -> Result<Self, Remark> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |text: &str| {
            let digits = text.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| text.parse::<u16>().ok()).flatten()
        };
        match (port(first), port(last)) {
            (Some(first), Some(last)) if first > 0 && first <= last => Ok(Self { first, last }),
            _ => Err(Remark::allowed(
                format!("{:?} is no port", shown(text)),
                "a port from 1 to 65535, or a range such as 8000-8999",
            )),
        }
    }
}
