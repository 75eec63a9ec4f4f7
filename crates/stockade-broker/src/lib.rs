//! Acts for guests on the network and on granted folders, under policy.
//!
//! A guest has no socket and no file. What it asks for comes here as a request whose every byte is
//! hostile; the broker decides, then acts itself. Nothing is reachable that no rule names.
//!
//! - Network: [`Egress`], one for each instance, from [`Broker::egress`]. A name is resolved once, all
//!   its addresses are checked, and the connection goes to exactly a checked address. Connections,
//!   caches, TLS sessions and budgets are never shared between instances.
//! - Connections over TCP: [`Sockets`], one for each instance, from [`Broker::sockets`], by rules of their own.
//! - Tunnels: [`Via`], a WireGuard tunnel that rules of both can name, from [`Broker::tunnel`].
//! - Files: [`Folder`], a granted folder whose paths cannot leave it.
//! - Secrets: [`Secrets`]. The guest holds placeholders; only requests to the hosts that a secret is
//!   bound to get its value.
//! - Every refusal is an error for the guest and an event for the operator's [`Audit`].
//! - Proxies and client certificates belong to rules: [`Proxy`], [`ClientCertificate`].
//!
//! Deliberately absent: following redirects (each hop is a new request of the guest, checked like the
//! first), proxies from the environment, cookies, caches of responses.

mod address;
mod audit;
mod broker;
mod budget;
mod carrier;
mod connect;
mod connector;
mod decode;
mod download;
mod egress;
mod error;
mod files;
mod headers;
mod in_flight;
mod network;
mod pattern;
mod places;
mod policy;
mod pool;
mod proxy;
mod race;
mod resolve;
mod rule_tls;
mod secrets;
mod sockets;
mod target;
mod upload;
mod via;
mod websocket;

pub use address::AddressKind;
pub use audit::{Action, Audit, LogAudit, Misplaced, Moved, Outcome, Reason, Refusal, Usage};
pub use broker::{Broker, BrokerOptions};
pub use budget::{Quota as BudgetCounter, Spent};
pub use connect::{BrokerError, Stream};
pub use egress::Egress;
pub use error::EgressError;
pub use files::{
    ChangeKind, EntryKind, FileChange, FileChanges, FileError, Folder, FolderEntry, FolderOptions,
    Listing, Metadata, Misfit, Mode, StopChanges, WriteOptions,
};
pub use network::{
    DialError, LookupError, Network, RecordData, RecordKind, TlsClient, TlsClientOptions,
    reverse_name,
};
pub use pattern::matches as host_matches;
pub use places::{Missed, Places};
pub use policy::{Budget, EgressLimits, EgressPolicy, Rule};
pub use proxy::{Proxy, ProxyCredentials, ProxyProtocol};
pub use resolve::ResolverSource;
pub use rule_tls::ClientCertificate;
pub use secrets::{Secret, SecretValue, Secrets, SecretsError};
pub use sockets::{
    Connection, ConnectionStream, Deadline, Protocol, Secure, SocketLimits, SocketPolicy,
    SocketRule, SocketStream, SocketTarget, Sockets, TlsStart, TlsUse,
};
pub use via::{Via, Ways};
