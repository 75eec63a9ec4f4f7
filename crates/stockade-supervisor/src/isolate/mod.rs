//! One isolate as its host, its guest and the watchdog share it.
//!
//! The three have narrow views of one [`Isolate`]: the host an `IsolateHandle` or a `RemoteGuest`, the guest a
//! `GuestContext`, the watchdog the trait [`Watched`]. In a worker process there is no host's side: the
//! [`Uplink`] leads to the other process instead.

pub(crate) mod debug_entrance;
pub(crate) mod open_requests;
pub(crate) mod probe_orders;
pub(crate) mod queue;
pub(crate) mod refusal;
pub(crate) mod state;
pub(crate) mod termination;
pub(crate) mod uplink;

use stockade_limits::Limits;

use self::state::IsolateState;
use self::termination::Ending;
use self::uplink::Uplink;
use crate::end::{DestroyReason, End, ResourceUsage, TerminateReason};
use crate::limits::activity::Activity;
use crate::limits::interrupt::Outside;
use crate::limits::watched::Watched;

pub(crate) struct Isolate<U: ?Sized> {
    pub(crate) state: IsolateState,
    pub(crate) uplink: U,
}

impl<U: Uplink + ?Sized> Isolate<U> {
    /// Ends the isolate for breaking a limit. The first reason stands.
    pub(crate) fn terminate(&self, reason: TerminateReason, detail: String) {
        self.terminate_with(reason, detail, self.state.usage());
    }

    /// As [`Isolate::terminate`], with a usage that is known already.
    pub(crate) fn terminate_with(
        &self,
        reason: TerminateReason,
        detail: String,
        usage: ResourceUsage,
    ) {
        self.begin_end(End::Terminated {
            reason,
            usage,
            detail,
        });
    }

    /// Ends the isolate because the host wants so; events that it had sent still reach the host.
    pub(crate) fn destroy(&self, reason: DestroyReason) {
        if self.begin_end(End::Destroyed(reason)) {
            self.report();
        }
    }

    fn begin_end(&self, end: End) -> bool {
        if !self.state.termination.begin(end) {
            return false;
        }
        // The guest's thread may be in V8, waiting for its turn, waiting for room, or waiting for messages: each
        // has its own way out.
        if let Some(interrupt) = self.state.interrupt_handle() {
            interrupt.terminate();
        }
        self.state.activity.release();
        self.uplink.close();
        self.state.inbox.close(true);
        true
    }

    /// Reports how the isolate ended, if it has and that was not reported before.
    pub(crate) fn report(&self) {
        if let Some(end) = self.state.termination.take_report() {
            self.uplink.report(&self.state, end);
        }
    }

    /// Nothing of the isolate runs any more.
    pub(crate) fn left(&self) {
        self.state.activity.end();
        if self.begin_end(End::Terminated {
            reason: TerminateReason::Crashed,
            usage: self.state.usage(),
            detail: "the isolate's thread ended unexpectedly".to_owned(),
        }) {
            tracing::error!(
                "isolate #{}: its thread ended without a reason",
                self.state.id
            );
        }
        self.report();
        (self.state.termination).leave(|| self.uplink.stopped_after_all());
        self.state.set_interrupt_handle(None);
        self.state.set_debugger(None);
        self.uplink.left(&self.state);
    }
}

impl<U: Uplink> Watched for Isolate<U> {
    fn limits(&self) -> &Limits {
        &self.state.options.limits
    }

    fn activity(&self) -> &Activity {
        &self.state.activity
    }

    fn outside(&self) -> Option<Outside> {
        self.state.outside()
    }

    fn terminate(&self, reason: TerminateReason, detail: String) {
        Self::terminate(self, reason, detail);
    }

    fn interrupt(&self) {
        if let Some(handle) = self.state.interrupt_handle() {
            handle.interrupt();
        }
    }

    fn flush_stale(&self) {
        self.uplink.flush_stale(&self.state);
    }

    fn is_ending(&self) -> bool {
        self.state.is_ending()
    }

    fn enforce_end(&self) -> bool {
        let abandon = || self.uplink.abandon(&self.state);
        let progress = self.state.termination.progress(self.state.grace, abandon);
        if progress == Ending::Left {
            return true;
        }
        // Not under the lock of the termination: an isolate in a worker may leave within this call. And more
        // than once: a call that came before the engine entered JavaScript may have been cleared.
        if let Some(interrupt) = self.state.interrupt_handle() {
            interrupt.terminate();
        }
        if progress == Ending::Overdue {
            self.report();
        }
        false
    }
}
