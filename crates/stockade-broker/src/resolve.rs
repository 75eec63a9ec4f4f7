//! Names to addresses.
//!
//! Each instance has a resolver and a cache of its own: nothing can be learned from what another one
//! has looked up. Names are taken as complete, search domains are never added. What fails, fails
//! closed: there is no other resolver to fall back to.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hickory_resolver::config::{
    LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::name_server::TokioConnectionProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::RecordType;
use hickory_resolver::proto::xfer::Protocol;
use hickory_resolver::system_conf::read_system_conf;
use hickory_resolver::{Hosts, Name, ResolveError, TokioResolver};
use parking_lot::Mutex;
use stockade_http::Host;

/// Records that one instance's cache holds.
const CACHED: usize = 256;
/// Longest that an answer is believed, whatever its time to live.
const MOST_TTL: Duration = Duration::from_secs(300);
/// Longest that a "no such name" is believed.
const MOST_NEGATIVE_TTL: Duration = Duration::from_secs(10);
/// How often the machine's files are checked.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Answers with more addresses than this are an attack or an error.
const MOST_ADDRESSES: usize = 64;

/// Where names are looked up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ResolverSource {
    /// The servers of `/etc/resolv.conf`, after `/etc/hosts`. Search domains are not used: a guest
    /// names a host in full.
    #[default]
    System,
    /// Names come from these servers, over UDP and TCP, and not from `/etc/hosts`.
    Servers(Vec<SocketAddr>),
}

/// Why a name has no addresses, in words for the guest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ResolveFailure {
    #[error("no such name, or no address for it")]
    None,
    #[error("more than {MOST_ADDRESSES} addresses")]
    TooMany,
    #[error("the tunnel has no DNS server, so only addresses can be reached through it")]
    NoServer,
    #[error("the machine has no usable resolver")]
    Unusable,
    #[error("the resolver failed")]
    Failed,
}

/// One instance's resolver. Set up when it is first used, and again when the machine's files change.
pub(crate) struct Resolver {
    source: ResolverSource,
    current: Mutex<Option<Current>>,
}

struct Current {
    inner: Arc<Inner>,
    files: Files,
    looked_at: Instant,
}

/// When the machine's files were last changed, as far as they are there.
type Files = [Option<SystemTime>; 2];

fn files() -> Files {
    ["/etc/resolv.conf", "/etc/hosts"]
        .map(|path| fs::metadata(path).and_then(|m| m.modified()).ok())
}

struct Inner {
    hosts: Hosts,
    resolver: TokioResolver,
}

impl Resolver {
    pub(crate) fn new(source: ResolverSource) -> Self {
        Self {
            source,
            current: Mutex::new(None),
        }
    }

    /// All addresses of a host, at least one. An address literal is its own.
    pub(crate) async fn addresses(&self, host: &Host) -> Result<Vec<IpAddr>, ResolveFailure> {
        let name = match host {
            Host::Address(address) => return Ok(vec![*address]),
            Host::Name(name) => name,
        };
        let name = Name::from_ascii(format!("{name}.")).map_err(|_| ResolveFailure::None)?;
        let inner = self.current()?;
        let addresses = match inner.hosts_of(&name) {
            addresses if !addresses.is_empty() => addresses,
            _ => {
                let found = inner
                    .resolver
                    .lookup_ip(name)
                    .await
                    .map_err(|error| failure(&error))?;
                found.iter().take(MOST_ADDRESSES + 1).collect()
            }
        };
        bounded(addresses.into_iter())
    }

    /// What asks the servers of names for any records; it does not read `/etc/hosts`.
    pub(crate) fn records(&self) -> Result<TokioResolver, ResolveFailure> {
        Ok(self.current()?.resolver.clone())
    }

    fn current(&self) -> Result<Arc<Inner>, ResolveFailure> {
        let mut current = self.current.lock();
        if let Some(current) = current.as_mut() {
            let is_fixed = matches!(self.source, ResolverSource::Servers(_));
            if is_fixed || current.looked_at.elapsed() < LOOK_EVERY {
                return Ok(current.inner.clone());
            }
            current.looked_at = Instant::now();
            if current.files == files() {
                return Ok(current.inner.clone());
            }
        }
        // The time is taken first: a change in between is seen the next time.
        let (files, looked_at) = (files(), Instant::now());
        let inner = Arc::new(self.set_up()?);
        *current = Some(Current {
            inner: inner.clone(),
            files,
            looked_at,
        });
        Ok(inner)
    }

    fn set_up(&self) -> Result<Inner, ResolveFailure> {
        let (config, mut options) = match &self.source {
            ResolverSource::System => read_system_conf().map_err(|error| {
                tracing::error!(%error, "/etc/resolv.conf cannot be used: guests reach no name");
                ResolveFailure::Unusable
            })?,
            ResolverSource::Servers(servers) => {
                let mut config = ResolverConfig::new();
                for &server in servers {
                    config.add_name_server(NameServerConfig::new(server, Protocol::Udp));
                    config.add_name_server(NameServerConfig::new(server, Protocol::Tcp));
                }
                (config, ResolverOpts::default())
            }
        };
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.use_hosts_file = ResolveHosts::Never;
        bounds(&mut options);
        let hosts = match &self.source {
            ResolverSource::System => Hosts::from_system().unwrap_or_default(),
            ResolverSource::Servers(_) => Hosts::default(),
        };
        let provider = TokioConnectionProvider::default();
        let mut builder = TokioResolver::builder_with_config(config, provider);
        *builder.options_mut() = options;
        Ok(Inner {
            hosts,
            resolver: builder.build(),
        })
    }
}

impl Inner {
    fn hosts_of(&self, name: &Name) -> Vec<IpAddr> {
        [RecordType::A, RecordType::AAAA]
            .into_iter()
            .filter_map(|kind| {
                self.hosts
                    .lookup_static_host(&Query::query(name.clone(), kind))
            })
            .flat_map(|lookup| {
                lookup
                    .iter()
                    .filter_map(|data| data.ip_addr())
                    .collect::<Vec<_>>()
            })
            .take(MOST_ADDRESSES + 1)
            .collect()
    }
}

/// Bounds what a resolver remembers, and how long it asks.
pub(crate) fn bounds(options: &mut ResolverOpts) {
    options.edns0 = true;
    options.cache_size = CACHED;
    options.positive_max_ttl = Some(MOST_TTL);
    options.negative_max_ttl = Some(MOST_NEGATIVE_TTL);
    options.timeout = options.timeout.min(Duration::from_secs(5));
    options.attempts = options.attempts.min(3);
}

/// At least one address, and not too many.
pub(crate) fn bounded(
    addresses: impl Iterator<Item = IpAddr>,
) -> Result<Vec<IpAddr>, ResolveFailure> {
    let addresses: Vec<_> = addresses.take(MOST_ADDRESSES + 1).collect();
    match addresses.len() {
        0 => Err(ResolveFailure::None),
        count if count > MOST_ADDRESSES => Err(ResolveFailure::TooMany),
        _ => Ok(addresses),
    }
}

pub(crate) fn failure(error: &ResolveError) -> ResolveFailure {
    if error.is_no_records_found() || error.is_nx_domain() {
        ResolveFailure::None
    } else {
        tracing::debug!(%error, "a name was not resolved");
        ResolveFailure::Failed
    }
}
