//! The configuration file of `stockade serve`: read, checked, described.
//!
//! Text becomes a tree in which every node knows its place, and a reader walks it and goes on after a
//! mistake, so that one run names them all. What comes out is a [`Config`] with every default filled in:
//! sizes are bytes, times are [`Duration`](std::time::Duration)s, paths are absolute.
//!
//! Invariants:
//! 1. A [`Config`] has passed every check: routes don't clash, bindings name instances there are, numbers
//!    lie in their ranges.
//! 2. Keys are stated once, in tables of sections. The reader, the JSON Schema and the
//!    reference in `docs/config.md` all come from them.
//! 3. No text makes it panic, recurse without bound or use more memory than a multiple of the text's
//!    length.
//!
//! Deliberately absent: opening sockets, loading certificates or code, starting anything. That a file is
//! there is checked by [`Config::load`] only.

mod check;
mod config;
mod fields;
mod files;
mod guard;
mod hints;
mod instance;
mod keys;
mod mistake;
mod network;
mod observe;
mod reader;
#[cfg(test)]
mod reference;
mod schema;
mod tls;
mod tree;
mod units;
mod url;
mod yaml;

pub use config::{Config, Loaded};
pub use guard::{DataGuard, GuardRule, PortRange};
pub use instance::{
    Assets, Autoscale, Binding, Cron, FileGrant, FileMode, Instance, InstanceLimits, Recycle,
    Scaling, Secret, SecretSource, SecretText, StateBinding,
};
pub use mistake::{Mistake, Mistakes, Severity};
pub use network::{GatewayLimits, Listener, ProxyProtocol};
pub use observe::{
    AccessLog, ClientAddress, ConsoleLog, Level, LogFormat, Logging, Metrics, Query,
};
pub use schema::schema;
pub use tls::{Acme, AcmeChallenge, Certificate, ClientAuth, ClientAuthMode, Tls, TlsVersion};
pub use url::UrlPattern;
