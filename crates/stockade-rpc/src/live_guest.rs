//! An isolate that may be called, and for whose calls it uses CPU time.

use std::sync::Arc;
use std::time::Instant;

use stockade_http::{CpuAccount, OnBehalf};
use stockade_instance::{Charges, Metered};
use stockade_supervisor::IsolateHandle;

/// An isolate, from its start to its end.
pub(crate) struct LiveGuest {
    pub(crate) handle: IsolateHandle,
    since: Instant,
    charges: Charges,
}

/// A call that the guest works on. Dropped, nobody waits for it any more.
pub(crate) struct ChargedCall {
    guest: Arc<LiveGuest>,
    number: u64,
}

impl LiveGuest {
    pub(crate) fn new(handle: IsolateHandle) -> Self {
        Self {
            handle,
            since: Instant::now(),
            charges: Charges::default(),
        }
    }

    fn metered(&self) -> Metered<'_> {
        Metered {
            isolate: &self.handle,
            since: self.since,
        }
    }

    /// A call begins, whose CPU time has this account. None where no call has had one.
    pub(crate) fn charge(
        self: &Arc<Self>,
        cpu: Option<Arc<dyn CpuAccount>>,
    ) -> Option<ChargedCall> {
        if cpu.is_none() && !self.charges.is_limited() {
            return None;
        }
        let client = OnBehalf { key: None, cpu };
        Some(ChargedCall {
            number: self.charges.begin(client, self.metered()),
            guest: Arc::clone(self),
        })
    }

    /// Charges what was used since the last time.
    pub(crate) fn settle(&self) {
        if self.charges.is_limited() {
            self.charges.settle(self.metered());
        }
    }
}

impl Drop for ChargedCall {
    fn drop(&mut self) {
        self.guest.charges.end(self.number, self.guest.metered());
    }
}
