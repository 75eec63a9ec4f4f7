//! The configuration file of `stockade serve`: read, checked, described.
//!
//! Text becomes a tree in which every node has its span, and a reader walks it and goes on after an error, so that
//! one run reports them all. What comes out is a [`Config`] with every default filled in:
//! sizes are bytes, times are [`Duration`](std::time::Duration)s, paths are absolute.
//!
//! Invariants:
//! 1. A [`Config`] has passed every check: routes don't clash, bindings name instances there are, numbers
//!    lie in their ranges.
//! 2. A key is declared once, by `section!`. The field of the configuration, its reader, the JSON Schema and the
//!    reference in `docs/config.md` all come from the declaration.
//! 3. What can be parsed is parsed here, into the type that its user takes: methods, headers, hosts, cron
//!    expressions. An entry that cannot be parsed is an error, never left out.
//! 4. No text makes it panic, recurse without bound or use more memory than a multiple of the text's
//!    length.
//!
//! Deliberately absent: opening sockets, loading certificates or code, starting anything. That a file is
//! there is checked by [`Config::load`] only.

mod admin;
mod auth;
mod check;
mod config;
mod deployments;
mod diagnostic;
mod fields;
mod files;
mod grants;
mod guard;
mod hints;
mod instance;
mod keys;
mod network;
mod observe;
mod program;
mod proxy;
mod rate;
mod reader;
mod redact;
#[cfg(test)]
mod reference;
mod schema;
mod secret;
mod section;
mod sockets;
mod tls;
mod tracing;
mod tree;
mod units;
mod url;
mod value;
mod yaml;

pub use admin::Admin;
pub use auth::{ApiKeyAuth, Auth, CertificateAuth, JwtAuth, TokenAlgorithm};
pub use config::{ApiKeys, Config, Loaded};
pub use deployments::Deployments;
pub use diagnostic::{Diagnostic, Diagnostics, Severity};
pub use grants::{
    Approve, BitcoinNetwork, CallLimits, DnsGrant, DnsRecord, DoorSettings, DoorTls, ElectrumGrant,
    ElectrumServer, FeeLimit, FileMode, FilesGrant, Grant, KeyAlgorithm, KeyEncoding, KeyGrant,
    KeyUsage, LightningGrant, LnbitsWallet, MongoGrant, Msat, MysqlGrant, NostrGrant,
    NostrPermission, PgpGrant, PgpIsolation, PgpUsage, PostgresGrant, RedisGrant, Spend,
    SqlSettings, SqliteGrant, SqliteIsolation, WireguardGrant, WireguardKeys, WireguardTunnelGrant,
};
pub use guard::{DataGuard, GuardRule, PortRange};
pub use instance::{
    Assets, AssetsOrder, Autoscale, Binding, Cron, FileGrant, Instance, InstanceLimits, Recycle,
    Scaling, Secret, StateBinding, TemplateUse,
};
pub use network::{GatewayLimits, Listener, ProxyProtocol};
pub use observe::{
    AccessLog, Audit, ClientAddress, ConsoleLog, Level, LogFormat, Logging, Metrics, Query, Redact,
    Usage,
};
pub use program::{parse_data_guard, parse_grants};
pub use proxy::{ProxyScheme, ProxyUrl};
pub use rate::{LimitBy, RateLimit, cpu_amount};
pub use redact::redact;
pub use schema::schema;
pub use secret::{SecretRef, SecretSource, SecretText};
pub use sockets::{ConnectRule, Protocol, Sockets, TlsUse};
pub use tls::{
    Acme, AcmeChallenge, Certificate, ClientAuth, ClientAuthMode, ExpiredCrl, Tls, TlsVersion,
};
pub use tracing::{TraceParents, TraceProtocol, Tracing};
pub use units::{size, time};
pub use url::UrlPattern;
