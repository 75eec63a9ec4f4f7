//! Starts isolates at every isolation level, enforces their limits, ends them, and passes on their messages.
//!
//! A [`Supervisor`] creates isolates through a [`IsolationBackend`], which knows how to run one (on a thread, in a
//! worker). Each isolate has three narrow views: the host's is an [`IsolateHandle`] with the events of an
//! [`EventQueue`], whatever runs the guest has a [`GuestContext`], and the watchdog reads clocks and ends it.
//!
//! - `isolate`: what the three share, and the way from a guest to its host.
//! - `host`: the host's side. - `guest`: the guest's side. - `limits`: the watchdog and what it goes by.
//! - `worker`: guests in other processes, over a socket.
//!
//! Invariants:
//! 1. An isolate ends once: the first reason stands, and its events reach the host exactly once.
//! 2. Every queue is bounded in messages and in bytes. The host is refused when one is full, the
//!    guest waits (its thread, nobody else's).
//! 3. Limits are watched from outside the isolate's thread, by reading that thread's CPU clock.
//! 4. When an isolate does not stop by itself within [`GRACE`], its end is reported all the same and
//!    it is counted as abandoned until its thread really ends. One in a worker is killed with it instead.
//!
//! Deliberately absent: V8, and any decision on what a guest may reach.

mod backend;
mod end;
mod guest;
mod host;
mod isolate;
mod limits;
mod start_error;
#[cfg(target_os = "linux")]
mod worker;

pub use backend::{IsolationBackend, NewIsolate};
pub use end::{DestroyReason, End, ResourceUsage, TerminateReason};
pub use guest::context::{Clocks, GuestContext, HelperMark};
pub use guest::debugging::DebugExit;
pub use host::event::Event;
pub use host::event_queue::{EventQueue, Turn};
pub use host::handle::{CallError, IsolateHandle, SendError, Stats};
pub use host::probe::{
    CpuRecording, DebugError, DebugSession, LONGEST_PROFILE, ProbeError, write_private,
};
pub use host::supervisor::{CreateError, Supervisor};
pub use isolate::debug_entrance::DebugEntrance;
pub use isolate::refusal::GuestSendError;
pub use limits::cpu_clock::CpuClock;
pub use limits::interrupt::{InterruptHandle, Outside};
pub use limits::watchdog::GRACE;
pub use start_error::StartError;
#[cfg(target_os = "linux")]
pub use worker::{
    ExitCause, HostConnection, JailLauncher, LaunchedWorker, WorkerBackend, WorkerEvent,
    WorkerEvents, WorkerExit, WorkerLauncher, WorkerProcess,
};
