//! For whose requests a mirror uses CPU and memory, which [`Charges`] divides.
//!
//! A request is open from the moment at which the guest may begin with it until the guest is done with it: with its
//! response's body, its `waitUntil` promises and its WebSocket, also when its client has gone.
//!
//! Invariant: what is reported to the observer adds up to what the kernel counted for the mirror.
//!
//! [`Charges`]: stockade_http::Charges

use std::sync::Arc;
use std::time::{Duration, Instant};

use stockade_http::{Metered, OnBehalf, Used};

use super::Mirror;

/// An open request. Dropped, the guest is done with it.
pub(crate) struct Charge {
    mirror: Arc<Mirror>,
    number: u64,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.mirror.charges.end(self.number, &*self.mirror);
    }
}

impl Metered for Mirror {
    fn cpu(&self) -> Duration {
        self.handle.cpu()
    }

    fn memory(&self) -> u64 {
        self.handle.memory()
    }

    fn since(&self) -> Instant {
        self.born
    }
}

impl Mirror {
    /// A request of this client begins. `None` where nothing asks for whom it uses CPU time and memory.
    pub(super) fn charge(self: &Arc<Self>, client: OnBehalf) -> Option<Charge> {
        let divided = client.account.is_some()
            || self.charges.is_limited()
            || self.pool.observer.divides_use();
        divided.then(|| Charge {
            number: self.charges.begin(client, &**self),
            mirror: Arc::clone(self),
        })
    }

    /// Reports what was used since the last time.
    pub(crate) fn settle(&self) {
        self.report(self.charges.settle(self));
    }

    /// Reports what was used until the end of everything that ran in the mirror.
    pub(super) fn settle_last(&self) {
        self.report(self.charges.settle_last(self));
    }

    fn report(&self, taken: Vec<(Option<u64>, Used)>) {
        for (key, used) in taken {
            self.pool.observer.used(key, &used);
        }
    }
}
