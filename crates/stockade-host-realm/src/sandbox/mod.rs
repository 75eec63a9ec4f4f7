//! `V8Sandbox` and `Isolate`: from JavaScript to the supervisor, and back.
//!
//! What the host sends goes by ops, as JSON text made in V8. What isolates send does not: the run's
//! loop takes their events from [`Sandboxes`] and calls the realm's dispatch function, once a handler can
//! have them.

mod account;
mod approvals;
mod calls;
mod http;
mod opener;
mod ops;
mod parse;
mod probes;
mod stash;
mod state;
mod thrown;

pub use account::{Account, Arrival, Given, IsolateKey, Receiver};
pub(crate) use calls::{
    WaitingData, op_isolate_call, op_isolate_drain, op_isolate_evaluate, op_isolate_ready,
    op_isolate_take, op_isolate_unstash,
};
pub(crate) use http::{
    op_guest_server_event, op_guest_server_listen, op_guest_server_shutdown, op_isolate_fetch,
};
pub(crate) use ops::{
    op_grant_asked, op_grant_decided, op_host_is_pending, op_isolate_answer, op_isolate_control,
    op_isolate_destroy, op_isolate_execute, op_isolate_handle_event, op_isolate_handle_method,
    op_isolate_hold, op_isolate_ignore_event, op_isolate_let_go, op_isolate_listen,
    op_isolate_reject, op_isolate_send, op_isolate_stats, op_isolate_withdraw,
    op_sandbox_abandoned, op_sandbox_create, op_sandbox_isolates, op_sandbox_new,
    op_sandbox_shutdown, op_sandbox_threads,
};
pub use parse::parse;
pub(crate) use probes::{
    op_isolate_cpu_profile, op_isolate_heap_snapshot, op_isolate_heap_statistics,
};
pub use state::{SandboxSetup, Sandboxes};
pub use thrown::error_json;
