//! Opens isolates to debuggers that speak Chrome's DevTools protocol.
//!
//! An [`Inspector`] is one server for the process. Each isolate registers and gets a URL of its own;
//! `/json/list` names them all, as debuggers expect.
//!
//! Invariants:
//! 1. An isolate is notified on its own thread, before it waits in a pause and after it: so its
//!    clocks can stop exactly then (see `session`).
//! 2. [`Debuggers::close`] frees an isolate from any pause, from any thread.
//! 3. Requests whose `Host` is neither `localhost` nor an IP address are refused: a web page that has
//!    its own name resolved to this machine learns nothing. So are requests whose `Origin` is that of a site.
//!
//! 4. What waits for a debugger or for an isolate is bounded in bytes. Who sends waits for the other side; an isolate whose
//!    debugger takes nothing for long loses the session, with an error that says so.
//!
//! Deliberately absent: authentication. Anyone who may connect to the address and read the list of
//! targets, or knows a target's random id, controls that isolate: the host isolate with all its rights.

mod server;
mod session;
mod target;
mod waiting;

pub use server::{Inspector, ListenError};
pub use session::{
    BoxError, CommandSender, Debuggable, Debuggers, Entrance, Session, Watcher, leave,
};
pub use target::{Listed, Target};
pub use waiting::{MessageReceiver, MessageSender, Overflow};
