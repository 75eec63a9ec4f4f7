//! Listeners and routes: from a client's connection to the site that answers.
//!
//! A [`Gateway`] accepts connections, speaks HTTP/1.1 and HTTP/2 with clients, and gives each request to
//! the [`Target`] of the [`Route`] that matches it. What it did goes to an [`Observer`].
//!
//! Invariants:
//! 1. A client is hostile. Whatever it sends or does not send, it takes at most what [`Limits`] grants
//!    one connection and one address, and never keeps another client waiting.
//! 2. There is one reading of a request: a message whose end two readers could see at different places is
//!    refused, and routes, targets and logs see the same host and the same path.
//! 3. A target never learns of headers that speak for the gateway (`x-forwarded-*`, `forwarded`, `cf-*`,
//!    `x-request-id`) but from the gateway itself or a proxy that the operator trusts, and it always gets
//!    those of the gateway. Requests that do not come from a client get them from [`write_identity`], or
//!    lose them by [`remove_identity`].
//! 4. A reload or a drain never cuts a request or a WebSocket that ends in time.
//!
//! Deliberately absent: configuration files, metrics, what answers a request; TLS itself, which is the crate
//! `stockade-tls`.

mod access;
mod assets;
mod credential;
mod filter;
mod gateway;
mod http;
mod limits;
mod listener;
mod parsers;
mod rate;
mod rejection;
mod route;
mod state;
mod target;
mod websocket;

pub use crate::http::forwarded::{remove_identity, write_identity};
pub use access::{
    AccessRecord, ConnectionEvent, Observer, Outcome, Refusal, SocketRecord, Transferred,
    Unobserved,
};
pub use assets::{AssetFallback, Assets, AssetsError, AssetsOptions};
pub use credential::KeyRule;
pub use gateway::{Drained, Gateway, GatewayStats, PreparedReload};
pub use limits::{Limits, SocketLimits};
pub use listener::flows::DatagramLimits;
pub use listener::inherited::{InheritError, InheritedSockets};
pub use listener::options::{Address, ListenError, Listener, ProxyProtocol};
#[doc(hidden)]
pub use parsers::parse_everything;
pub use rate::{CountedUse, LimitBy, LimitSubject, LimitUse, RateRule, RouteLimits, Unit};
pub use route::pattern::{Pattern, PatternError};
pub use route::table::{Route, RouteTable, TableError, TableOptions, TraceParents, TraceRule};
pub use target::{ByteStream, StreamConnection, StreamHandler, StreamTarget, Target, Transport};
