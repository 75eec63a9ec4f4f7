//! One site's code at its limits: mirrors, balance, scaling, and HTTP to and from its guests.
//!
//! An [`Instance`] keeps isolates that run the same code, its *mirrors*, and gives each request to one of
//! them. It speaks the guest protocol: control messages and requests over a
//! [`IsolateHandle`](stockade_supervisor::IsolateHandle). What a guest asks of its host goes to [`Services`], what
//! happens to it goes to an [`Observer`].
//!
//! Invariants:
//! 1. Everything a guest sends is hostile. It is parsed here, bounded here, and harms at most the mirror
//!    that sent it.
//! 2. Every request gets exactly one answer, even if its mirror ends.
//! 3. Whatever waits has a bound in number and in time.
//!
//! Deliberately absent: sockets of clients, routes, TLS; deciding what a guest may reach; V8.

mod backoff;
mod cron;
mod error;
mod fetch;
mod granted;
mod instance;
mod limits;
mod mirror;
mod observer;
mod options;
mod pool;
mod queue;
mod reconciler;
mod respond;
mod scale;
mod services;
mod stats;
mod wire;

pub use error::{FetchError, Refusal};
pub use granted::{FetchHandler, GrantedGuest, GrantedServices, Takes, set_serving};
pub use instance::{Instance, MirrorDebugger, MirrorError};
pub use limits::InstanceLimits;
pub use observer::{CronOutcome, MirrorEnd, MirrorEndReason, Observer, ScaleCause, Unobserved};
pub use options::{Autoscale, Cron, InstanceOptions, MirrorNumbers, Recycle, Scaling};
pub use services::{
    ConnectRequest, NoServices, SecureTransport, Services, SocketProtocol, Transport,
};
pub use stats::{Drained, InstanceStats, MirrorState, MirrorStats};
#[doc(hidden)]
pub use wire::parse_guest_message;
