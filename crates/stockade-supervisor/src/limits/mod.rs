//! What an isolate may use: clocks, and the thread that enforces limits by them.

pub(crate) mod activity;
pub(crate) mod cpu_clock;
pub(crate) mod cpu_slots;
pub(crate) mod interrupt;
pub(crate) mod watchdog;
pub(crate) mod watched;
