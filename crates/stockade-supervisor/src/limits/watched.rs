//! An isolate as the watchdog sees it.

use stockade_limits::Limits;

use super::activity::Activity;
use super::interrupt::Outside;
use crate::end::TerminateReason;

/// What the watchdog may do with an isolate.
pub(crate) trait Watched: Send + Sync {
    fn limits(&self) -> &Limits;

    /// The clocks of its thread.
    fn activity(&self) -> &Activity;

    /// What is known of it from outside its process; `None` for one in this process.
    fn outside(&self) -> Option<Outside>;

    /// Ends it; the first reason stands.
    fn terminate(&self, reason: TerminateReason, detail: String);

    /// Has its thread measure its memory and wait for its CPU slot.
    fn interrupt(&self);

    /// Writes messages that it gathered and that have waited for long, and looks for orders.
    fn flush_stale(&self);

    fn is_ending(&self) -> bool;

    /// Called while it is ending: reports its end when it is overdue. True once nothing of it runs any more.
    fn enforce_end(&self) -> bool;
}
