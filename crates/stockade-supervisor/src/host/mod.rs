//! The host's side of isolates: creating them, sending to them, and taking their events.

pub(crate) mod calls;
pub(crate) mod event;
pub(crate) mod event_queue;
pub(crate) mod fair_queue;
pub(crate) mod handle;
pub(crate) mod probe;
pub(crate) mod probe_slot;
pub(crate) mod registry;
#[cfg(target_os = "linux")]
pub(crate) mod remote;
pub(crate) mod side;
pub(crate) mod supervisor;
