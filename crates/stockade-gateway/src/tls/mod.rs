//! TLS: certificates by server name, clients' certificates by host, all exchanged while running.
//!
//! - Only TLS 1.2 and 1.3 exist here, with rustls' suites; the provider is named, never a default of
//!   the process.
//! - One policy, one server configuration: sessions never cross policies, and a request for a host of
//!   another policy than the connection's gets 421 ([`TlsStore::check`]).
//! - An expired certificate is never shown. A bad file never replaces a good one.
//!
//! What this module does not do: verify servers that guests call (the broker does), bound the time of a
//! handshake or count connections (the listener does), decide by route (a [`ClientRule`] is the
//! router's to ask).

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
pub use problem::{Problem, TlsError, Wrong};
pub use rule::{ClientRefused, ClientRule};
pub use store::TlsStore;
pub use watch::Watching;

#[cfg(test)]
mod tests;
