//! The types of HTTP that the gateway, instances, the broker and the configuration share.
//!
//! A request passes from the gateway to an instance, from an instance to the broker, and from one instance to
//! another. All of them use the one [`Body`], the one [`SocketMessage`] and the one description of a
//! [`Client`], so that nothing is copied on the way. What a request uses is charged to its [`RequestAccount`], and
//! [`Charges`] divides among requests what an isolate uses. Routes, rules of the data guard and the configuration
//! file share one [`Scheme`], one [`HostPattern`], one [`PathPattern`] and one normal form of paths.
//!
//! Invariants:
//! 1. A [`Host`] and a [`NormalPath`] exist only in canonical form: what one component compares is what every
//!    other component reads.
//! 2. Parsing takes time and memory in proportion to the text, and never panics.
//!
//! Deliberately absent: sockets, HTTP/1 and HTTP/2 themselves, TLS, decisions about who may reach what.

mod bearer;
mod body;
mod charges;
mod client;
mod host;
mod on_behalf;
mod path;
mod pattern;
mod problem;
mod scheme;
mod websocket;

pub use bearer::{SeveralCredentials, bearer};
pub use body::{Body, BoxError, empty_body, full_body};
pub use charges::{Charges, Metered, Used};
pub use client::{Client, ClientCertificate, ClientTls, RequestAccount, ServedBy};
pub use host::{Host, HostError};
pub use on_behalf::{OnBehalf, account_in_charge, key_in_charge, on_behalf_of};
pub use path::{EncodedSlashes, NormalPath, PathError, Slashes, normalize_escapes};
pub use pattern::{HostPattern, HostPatternError, PathPattern};
pub use problem::Problem;
pub use scheme::Scheme;
pub use websocket::{GuestSocket, SocketMessage, Upgrade, UpstreamSocket};
