//! Events for the operator: each refusal, and each request or socket that took place.
//!
//! Targets are named as `scheme://host:port`. Paths, queries, headers and bodies are the guest's data
//! and may hold secrets: they are in no event. Files are named as `binding:path`.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use stockade_limits::LineLimiter;
use strum::{IntoStaticStr, VariantNames};

use crate::address::AddressKind;

/// What a guest was about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum Action {
    /// An HTTP request.
    Fetch,
    /// Opening, or using, a WebSocket.
    #[strum(serialize = "websocket")]
    WebSocket,
    /// Opening, or using, a connection over TCP.
    Socket,
    /// Something in a granted folder.
    File,
}

impl Action {
    /// A fixed name, fit for a metric's label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The section of the configuration whose rules allow it, and what is counted there.
    fn section(self) -> (&'static str, &'static str) {
        match self {
            Self::Socket => ("sockets", "connections"),
            Self::Fetch | Self::WebSocket | Self::File => ("data_guard", "requests"),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a secret is not filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misplaced {
    /// The secret is not bound to the host.
    Host,
    /// The connection is not protected by TLS.
    PlainText,
    /// The secret is not for URLs.
    Url,
    /// Nothing is filled in in bodies, messages and names of fields.
    Body,
    /// The placeholder is not one of this instance's.
    Unknown,
}

/// Why something was refused.
#[derive(Clone, Debug, PartialEq, Eq, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// No rule names the host.
    #[strum(serialize = "host")]
    HostNotAllowed,
    /// A rule names the host, but not with this scheme.
    #[strum(serialize = "scheme")]
    SchemeNotAllowed,
    /// A rule names the host, but not with this port.
    #[strum(serialize = "port")]
    PortNotAllowed,
    /// A rule names the host, but not with this method.
    #[strum(serialize = "method")]
    MethodNotAllowed,
    /// A rule names the host, but connections and not datagrams, or the other way round.
    #[strum(serialize = "protocol")]
    ProtocolNotAllowed,
    /// A rule names the host, and its connections must have TLS.
    #[strum(serialize = "tls_required")]
    TlsRequired,
    /// A rule names the host, and its connections have no TLS by the broker.
    #[strum(serialize = "tls")]
    TlsNotAllowed,
    /// The host has an address that is not for everyone and is not listed in `allow_private`.
    #[strum(serialize = "address")]
    AddressNotAllowed(AddressKind),
    /// The host has an address outside the rule's own ranges, or inside a refused range.
    #[strum(serialize = "address_rule")]
    AddressOutsideRule,
    /// A placeholder of a secret was on its way to where the secret does not go.
    #[strum(serialize = "secret")]
    SecretElsewhere {
        /// The secret's name, never its value.
        secret: Arc<str>,
        /// Why it does not go there.
        why: Misplaced,
    },
    /// More requests a second than allowed.
    Rate {
        /// Requests a second.
        limit: u32,
    },
    /// Too many at the same time, those waiting included.
    Concurrency {
        /// Requests or sockets at the same time.
        limit: usize,
    },
    /// The instance's budget is spent.
    Budget {
        /// `requests` or `bytes`.
        of: &'static str,
        /// How many of them the budget has.
        limit: u64,
    },
    /// The request's or response's body is larger than allowed.
    #[strum(serialize = "size")]
    TooLarge {
        /// What was too large.
        what: &'static str,
        /// Bytes.
        limit: u64,
    },
    /// A compressed response grew far more than honest data does.
    #[strum(serialize = "decompression")]
    DecompressionBomb {
        /// Bytes out for each byte in.
        ratio: u32,
    },
    /// The path is not one that can be asked for, or leads out of the folder.
    Path,
    /// The folder was granted for reading only.
    ReadOnly,
    /// The folder's storage limit is reached.
    Storage {
        /// Bytes.
        limit: u64,
    },
    /// The folder has as many files and folders as it may have.
    #[strum(serialize = "entries")]
    TooMany {
        /// Files and folders.
        limit: u64,
    },
    /// A symbolic link, pipe, socket or device.
    SpecialFile,
    /// A file with more than one name is not changed in place.
    HardLinks,
    /// One watch would take more folders than it may.
    Watches {
        /// Folders.
        limit: usize,
    },
}

impl Reason {
    /// A fixed name, fit for a metric's label.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        self.into()
    }
}

impl Reason {
    /// In words, for something that `section` allows or not, with the number of `things`.
    fn describe(&self, f: &mut fmt::Formatter<'_>, action: Action) -> fmt::Result {
        let (section, things) = action.section();
        match self {
            Self::HostNotAllowed => write!(f, "no rule of {section} allows this host"),
            Self::SchemeNotAllowed => {
                write!(f, "{section} allows this host, but not with this scheme")
            }
            Self::PortNotAllowed => write!(f, "{section} allows this host, but not on this port"),
            Self::MethodNotAllowed => {
                write!(f, "{section} allows this host, but not with this method")
            }
            Self::ProtocolNotAllowed => {
                write!(f, "{section} allows this host, but not with this protocol")
            }
            Self::TlsRequired => write!(
                f,
                "{section} allows this host with TLS only: secureTransport must be \"on\", or TLS must start early"
            ),
            Self::TlsNotAllowed => write!(
                f,
                "{section} allows this host without TLS only: secureTransport must be \"off\""
            ),
            Self::AddressNotAllowed(kind) => {
                let article = if kind.as_str().starts_with('u') { "an" } else { "a" };
                write!(
                    f,
                    "the host has {article} {kind} address, and {section} does not list it in allow_private"
                )
            }
            Self::AddressOutsideRule => write!(
                f,
                "the host has an address outside the ranges that {section} allows"
            ),
            Self::SecretElsewhere { secret, why } => match why {
                Misplaced::Host => write!(f, "the secret {secret} is not bound to this host"),
                Misplaced::PlainText => write!(f, "the secret {secret} is sent over TLS only"),
                Misplaced::Url => write!(f, "the secret {secret} is not filled in in URLs"),
                Misplaced::Body => write!(
                    f,
                    "the secret {secret} is filled in in values of header fields, not in bodies, \
                     messages and names"
                ),
                Misplaced::Unknown => {
                    f.write_str("the placeholder is of no secret of this instance")
                }
            },
            Self::Rate { limit } => write!(f, "more than {limit} {things} a second"),
            Self::Concurrency { limit } => write!(f, "more than {limit} at the same time"),
            Self::Budget {
                of: "requests",
                limit,
            } => write!(f, "the budget of {limit} {things} is spent"),
            Self::Budget { of, limit } => write!(f, "the budget of {limit} {of} is spent"),
            Self::TooLarge { what, limit } => write!(f, "{what} is larger than {limit} bytes"),
            Self::DecompressionBomb { ratio } => write!(
                f,
                "the response decompresses to more than {ratio} times its size"
            ),
            Self::Path => f.write_str("the path is not a name inside the granted folder"),
            Self::ReadOnly => f.write_str("the folder is granted for reading only"),
            Self::Storage { limit } => write!(f, "the storage limit of {limit} bytes is reached"),
            Self::TooMany { limit } => write!(f, "it has {limit} files and folders already"),
            Self::SpecialFile => f.write_str("it is not a regular file or folder"),
            Self::Watches { limit } => write!(f, "more than {limit} folders would be watched"),
            Self::HardLinks => f.write_str(
                "it has other names (hard links), so it is not changed in place: write the whole file",
            ),
        }
    }
}

/// In the words of `data_guard`. [`Refusal`] has those of its action.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.describe(f, Action::Fetch)
    }
}

/// Something that a guest wanted and did not get.
///
/// Its `Display` text is for the guest too: it names the rule and the host, and no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The instance whose guest asked.
    pub instance: Arc<str>,
    /// What it was about to do.
    pub action: Action,
    /// `scheme://host:port`, or the folder's binding and the path's last known part.
    pub target: String,
    /// The rule that came nearest to allowing it, by its configured name.
    pub rule: Option<Arc<str>>,
    /// Why not.
    pub reason: Reason,
    /// The address that was refused. For the log only: a guest must not learn the network's inside.
    pub address: Option<IpAddr>,
}

impl Refusal {
    /// Why, in words without who and what.
    fn why(&self) -> impl fmt::Display + '_ {
        fmt::from_fn(|f| self.reason.describe(f, self.action))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} to {} refused: {} (instance {}",
            self.action,
            self.target,
            self.why(),
            self.instance
        )?;
        if let Some(rule) = &self.rule {
            write!(f, ", rule {rule}")?;
        }
        f.write_str(")")
    }
}

/// How a request or socket ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum Outcome {
    /// The whole response was handed to the guest, or the socket was closed.
    Done,
    /// The guest gave up before the end.
    Abandoned,
    /// The other end, the network or a limit ended it.
    Failed,
}

impl Outcome {
    /// A fixed name, fit for a metric's label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Bytes that a request or socket has moved and that were not reported before.
#[derive(Clone, Debug)]
pub struct Moved {
    /// The instance whose guest asked.
    pub instance: Arc<str>,
    /// The number of the API key of the client for whom the guest asked, where that is certain.
    pub key: Option<u64>,
    /// Bytes of request bodies or messages.
    pub sent: u64,
    /// Bytes of response bodies or messages, as they were on the wire.
    pub received: u64,
}

/// A request or socket that took place; reported at its end.
#[derive(Clone, Debug)]
pub struct Usage {
    /// The instance whose guest asked.
    pub instance: Arc<str>,
    /// The number of the API key of the client for whom the guest asked, where that is certain.
    pub key: Option<u64>,
    /// What it did.
    pub action: Action,
    /// `scheme://host:port`. Names come from the guest where a rule has wildcards: not for labels.
    pub target: String,
    /// The rule that allowed it.
    pub rule: Arc<str>,
    /// The response's status, if one came.
    pub status: Option<u16>,
    /// Bytes of request bodies or messages.
    pub sent: u64,
    /// Bytes of response bodies or messages, as they were on the wire.
    pub received: u64,
    /// Bytes sent and received that [`Audit::moved`] has not reported.
    pub unreported: (u64, u64),
    /// From the guest's call to the end of the body.
    pub took: Duration,
    /// How it ended.
    pub outcome: Outcome,
}

/// Observes refusals and use. Called on the paths of requests: must be quick, must not block.
pub trait Audit: Send + Sync + 'static {
    /// Something was refused.
    fn refused(&self, refusal: &Refusal);
    /// A request or socket took place and is over.
    fn used(&self, usage: &Usage) {
        let _ = usage;
    }
    /// A request or socket that is not over has moved bytes; about once in a second.
    fn moved(&self, moved: &Moved) {
        let _ = moved;
    }
}

/// Refusals of one instance that [`LogAudit`] writes in a second; the rest are counted.
const LOGGED_PER_SECOND: u32 = 20;
/// Instances whose refusals are counted separately; all further ones share one count.
const MOST_INSTANCES: usize = 10_000;

/// Writes refusals to the log, of each instance no more than 20 a second, so that none can hide
/// another's. Says how many it left out.
#[derive(Default)]
pub struct LogAudit {
    written: Mutex<HashMap<Arc<str>, LineLimiter>>,
}

impl LogAudit {
    /// How many lines were left out before this one, if it may be written.
    fn may_write(&self, instance: &Arc<str>, now: Instant) -> Option<u64> {
        let mut written = self.written.lock();
        let is_known = written.contains_key(instance) || written.len() < MOST_INSTANCES;
        let instance = if is_known {
            instance.clone()
        } else {
            Arc::from("")
        };
        let limiter = written
            .entry(instance)
            .or_insert_with(|| LineLimiter::new(now));
        limiter.admit(LOGGED_PER_SECOND, now)
    }
}

impl Audit for LogAudit {
    fn refused(&self, refusal: &Refusal) {
        let Some(left_out) = self.may_write(&refusal.instance, Instant::now()) else {
            return;
        };
        tracing::warn!(
            name: "egress_refused",
            target: "stockade::data_guard",
            instance = %refusal.instance,
            action = refusal.action.as_str(),
            target = %refusal.target,
            rule = refusal.rule.as_deref(),
            reason = refusal.reason.as_str(),
            address = refusal.address.map(tracing::field::display),
            left_out,
            "{}", refusal.why(),
        );
    }

    fn used(&self, usage: &Usage) {
        tracing::debug!(
            name: "egress_used",
            target: "stockade::data_guard",
            instance = %usage.instance,
            action = usage.action.as_str(),
            target = %usage.target,
            rule = %usage.rule,
            status = usage.status,
            sent = usage.sent,
            received = usage.received,
            took_ms = u64::try_from(usage.took.as_millis()).unwrap_or(u64::MAX),
            outcome = usage.outcome.as_str(),
            "used",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_of_a_noisy_instance_is_cut_and_hides_no_other() {
        let audit = LogAudit::default();
        let (noisy, quiet) = (Arc::from("noisy"), Arc::from("quiet"));
        let now = Instant::now();
        let written = (0..1000)
            .filter(|_| audit.may_write(&noisy, now).is_some())
            .count();
        assert_eq!(written, 20);
        assert_eq!(audit.may_write(&quiet, now), Some(0));
        assert_eq!(
            audit.may_write(&noisy, now + Duration::from_secs(1)),
            Some(980)
        );
        assert_eq!(
            audit.may_write(&noisy, now + Duration::from_secs(1)),
            Some(0)
        );
    }

    #[test]
    fn refusal_in_words_names_everything_but_the_address() {
        let refusal = Refusal {
            instance: "acme".into(),
            action: Action::Fetch,
            target: "https://db.example:443".to_owned(),
            rule: Some("databases".into()),
            reason: Reason::AddressNotAllowed(AddressKind::Private),
            address: Some("10.1.2.3".parse().unwrap()),
        };
        assert_eq!(
            refusal.to_string(),
            "fetch to https://db.example:443 refused: the host has a private address, and \
             data_guard does not list it in allow_private (instance acme, rule databases)"
        );
    }
}
