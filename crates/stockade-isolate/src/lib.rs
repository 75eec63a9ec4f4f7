//! Runs worker isolates on threads of this process.
//!
//! Each isolate has a thread of its own: the kernel shares the cores fairly between them, a thread's
//! CPU clock is the isolate's, and a built-in function that cannot be interrupted holds up nobody
//! else. [`ThreadBackend`] starts them from a startup snapshot made at build time and keeps some ready.
//!
//! Invariants:
//! 1. No guest code runs before its limits do.
//! 2. Running out of memory inside an isolate never ends the process: the isolate's thread stops
//!    for good instead.
//! 3. Everything unsafe is in `sys`.
//!
//! Deliberately absent: deciding when an isolate has had enough (the supervisor does), reaching
//! anything outside.

mod backend;
mod debug;
mod error;
mod initialize;
mod invoke;
mod modules;
mod port;
mod probe;
mod realm;
mod run;
mod script;
mod serve;
mod source_maps;
mod spins;
#[expect(
    unsafe_code,
    reason = "V8 calls back from C++ and its limits are set through raw pointers"
)]
mod sys;
mod thread_runtime;
#[cfg(target_os = "linux")]
mod worker;

/// The version of V8 that runs isolates, as `15.0.245.6`.
pub const V8_VERSION: &str = deno_core::v8::VERSION_STRING;

pub use backend::ThreadBackend;
pub use initialize::initialize;
pub use sys::alloc::MeteredAllocator;
#[cfg(target_os = "linux")]
pub use worker::{worker_main, worker_template};

/// The version of V8 in this program, such as `15.0.245.2-rusty`.
#[must_use]
pub fn v8_version() -> &'static str {
    deno_core::v8::V8::get_version()
}
