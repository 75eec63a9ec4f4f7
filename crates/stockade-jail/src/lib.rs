//! The layers that confine a worker process.
//!
//! A worker runs code that nobody vouches for. It is a process without privileges, files, network or
//! descriptors but one socket, and at the level [`Level::Container`] in namespaces and cgroups of its own.
//! [`Launcher::launch`] starts one from a small process that keeps nothing secret; [`run_if_launcher`], called
//! first in `main`, is that process's and the workers' side.
//!
//! Invariants:
//! 1. A layer that cannot be built is an error with its fix, never left out.
//! 2. Only the kernel's word counts on how a worker ended.
//! 3. Whatever ends the supervisor or the launcher ends all workers.
//! 4. Everything unsafe is in `sys`.
//!
//! Deliberately absent: what runs in a worker, and what is said over its socket.

#[cfg(target_os = "linux")]
mod capabilities;
#[cfg(target_os = "linux")]
mod cgroup;
#[cfg(target_os = "linux")]
mod child;
#[cfg(target_os = "linux")]
mod descriptors;
mod error;
mod event;
#[cfg(target_os = "linux")]
mod executable;
#[cfg(target_os = "linux")]
mod landlock;
#[cfg(target_os = "linux")]
mod launcher;
mod layer;
#[cfg(target_os = "linux")]
mod layers;
#[cfg(target_os = "linux")]
mod namespaces;
#[cfg(target_os = "linux")]
mod rlimits;
#[cfg(target_os = "linux")]
mod root;
#[cfg(target_os = "linux")]
mod seccomp;
mod spec;
#[cfg(target_os = "linux")]
#[expect(
    unsafe_code,
    reason = "system calls that no library wraps take raw pointers and numbers"
)]
mod sys;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;
#[cfg(not(target_os = "linux"))]
mod unsupported;
#[cfg(target_os = "linux")]
mod worker;

pub use error::JailError;
pub use event::{Denial, Exit, ExitStatus, JailEvent};
#[cfg(target_os = "linux")]
pub use launcher::{Clones, Launcher, Template, Worker, layers, run_if_launcher};
pub use layer::Layer;
#[cfg(target_os = "linux")]
pub use seccomp::allowed as allowed_syscalls;
pub use spec::{CODE_RANGE, CgroupUse, FILES, JailSpec, Level, OVERHEAD, Role, Wx};
#[cfg(not(target_os = "linux"))]
pub use unsupported::{
    Clones, EXIT_FAILED, EXIT_MEMORY, Inside, Launcher, Template, Worker, WorkerMain, layers,
    leave, run_if_launcher, show,
};
#[cfg(target_os = "linux")]
pub use worker::{EXIT_FAILED, EXIT_MEMORY, Inside, WorkerMain, leave, show};
