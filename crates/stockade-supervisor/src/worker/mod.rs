//! Isolates in worker processes.
//!
//! A worker is whatever runs isolates at the other end of a socket: a [`WorkerProcess`](process::WorkerProcess)
//! that a [`WorkerLauncher`](process::WorkerLauncher) starts, of which a process confined by
//! `stockade-jail` is one. In the supervisor's process a [`WorkerIsolate`](isolate::WorkerIsolate) stands for each
//! isolate of the worker; in the worker a [`HostConnection`](uplink::HostConnection) stands for the host.

mod backend;
mod backstop;
mod connection;
mod cpu_shares;
mod driver;
mod event_loop;
mod isolate;
mod jail;
mod process;
mod uplink;

pub use backend::WorkerBackend;
pub use jail::JailLauncher;
pub use process::{
    ExitCause, LaunchedWorker, WorkerEvent, WorkerEvents, WorkerExit, WorkerLauncher, WorkerProcess,
};
pub use uplink::HostConnection;
