//! Everything unsafe of this crate: memory limits inside V8 and ICU, reaching a running isolate, time zone.

pub(crate) mod alloc;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod blocks;
pub(crate) mod buffers;
#[cfg(target_os = "linux")]
pub(crate) mod first_use;
#[cfg(target_os = "linux")]
pub(crate) mod fork;
pub(crate) mod guard;
pub(crate) mod heap_profiler;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) mod icu;
pub(crate) mod interrupt;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod operators;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) mod pool;
pub(crate) mod time_zone;
