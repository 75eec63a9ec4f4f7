//! TLS for servers: certificates by server name, client certificates by host, ACME; all replaced while running.
//!
//! A [`TlsStore`] accepts TLS connections by a [`TlsOptions`] and reloads the files that they name. An [`Acme`]
//! fetches and renews certificates for names that no file covers.
//!
//! Invariants:
//! 1. Only TLS 1.2 and 1.3 exist here, with rustls' suites; the provider is named, never a default of
//!    the process.
//! 2. One policy, one server configuration: sessions never cross policies, and a request for a host of
//!    another policy than the connection's gets 421 ([`TlsStore::check`]).
//! 3. An expired certificate is never shown. A bad file never replaces a good one.
//!
//! Deliberately absent: verifying the servers that guests call (the broker does), bounding the time of a
//! handshake or counting connections (the listener does), deciding by route (the router asks a [`ClientRule`]).

mod accept;
mod acme;
mod connection;
mod event;
mod expiry;
mod index;
mod leaf;
mod names;
mod ocsp;
mod options;
mod parsers;
mod pem;
mod policy;
mod problem;
mod reading;
mod resolver;
mod rule;
mod store;
mod subject;
mod trust;
mod turns;
mod watch;

pub use accept::AcceptError;
pub use acme::{Acme, AcmeChallenge, AcmeError, AcmeOptions, ExternalAccount};
pub use connection::{ConnectionTls, Misdirected};
pub use event::{CertificateFacts, TlsEvent, TlsObserver};
pub use options::{
    CertificateFiles, ClientAuth, ClientAuthMode, HostClientAuth, OnExpired, Revocation,
    TlsOptions, TlsVersion, WatchOptions,
};
#[doc(hidden)]
pub use parsers::parse_everything;
pub use policy::PolicyId;
pub use problem::{TlsError, TlsProblem, Wrong};
pub use rule::{ClientRefused, ClientRule};
pub use store::TlsStore;
pub use watch::Watching;

#[cfg(test)]
mod tests;
