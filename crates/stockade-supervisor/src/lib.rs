//! Starts, meters and ends isolates at every isolation level, and carries their messages.
//!
//! A [`Supervisor`] creates isolates through a [`Wall`], which knows how to run one (on a thread, in a
//! process). Each isolate has two ends that share queues, clocks and a verdict: the [`Handle`] on the
//! host's side and the [`Seat`] on the side that runs the guest.
//!
//! Invariants:
//! 1. A verdict is passed once; the first one stands, and its events reach the host exactly once.
//! 2. Every queue is bounded in messages and in bytes. The host is refused when one is full, the
//!    guest waits (its thread, nobody else's).
//! 3. Limits are watched from outside the isolate's thread, by reading that thread's CPU clock.
//! 4. When an isolate does not stop by itself within [`GRACE`], its end is reported all the same and
//!    it is counted as abandoned until its thread really ends. One in a worker is killed with it instead.
//!
//! Deliberately absent: V8, and any decision on what a guest may reach.

mod activity;
mod console_rate;
mod cpu_clock;
mod end;
mod event;
mod handle;
mod hub;
mod meter;
mod queue;
mod rate;
mod requests;
mod seat;
mod shared;
mod supervisor;
mod wall;
#[cfg_attr(not(target_os = "linux"), path = "worker/elsewhere.rs")]
mod worker;

pub use cpu_clock::CpuClock;
pub use end::{DestroyReason, End, Figures, TerminateReason};
pub use event::Event;
pub use handle::{CallError, Handle, SendError, Stats};
pub use hub::{Hub, Turn};
pub use meter::GRACE;
pub use seat::{Clocks, Seat, Stopped};
pub use supervisor::{CreateError, Supervisor};
pub use wall::{Breaker, Outside, StartError, Wall};
#[cfg(target_os = "linux")]
pub use worker::{InnerLink, WorkerWall};
