//! `V8Sandbox` and `Isolate`: from JavaScript to the supervisor, and back.
//!
//! What the host sends goes by ops, as JSON text made in V8. What isolates send does not: the run's
//! loop takes their events from [`Sandboxes`] and calls the realm's dispatch function.

mod calls;
mod ops;
mod state;

pub use calls::add_related;
pub(crate) use calls::{
    WaitingParts, op_isolate_call, op_isolate_drain, op_isolate_evaluate, op_isolate_offer,
    op_isolate_ready,
};
pub(crate) use ops::{
    op_isolate_answer, op_isolate_control, op_isolate_destroy, op_isolate_execute,
    op_isolate_listen, op_isolate_reject, op_isolate_send, op_isolate_stats, op_sandbox_abandoned,
    op_sandbox_create, op_sandbox_isolates, op_sandbox_new, op_sandbox_shutdown,
    op_sandbox_threads,
};
pub use state::{SandboxSetup, Sandboxes};
