//! Isolates in worker processes.
//!
//! The supervisor's process and the worker have a seat each for the same isolate: the one here stands
//! for the guest ([`link`]), the one in the worker runs it ([`inner`]). Between them lies one socket.

mod ending;
mod event_loop;
mod inner;
mod link;
mod member;
mod task;
mod wall;
mod watch;

pub use inner::InnerLink;
pub(crate) use inner::Untold;
pub use wall::WorkerWall;
