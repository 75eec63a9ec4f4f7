//! Everything unsafe of this crate: memory limits inside V8, reaching a running isolate, time zone.

pub(crate) mod alloc;
pub(crate) mod breaker;
pub(crate) mod buffers;
pub(crate) mod guard;
pub(crate) mod time_zone;
