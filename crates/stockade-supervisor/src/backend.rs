//! What a way of running isolates must offer.

use std::sync::Arc;

use stockade_limits::IsolateOptions;

use crate::guest::context::GuestContext;
use crate::host::side::HostIsolate;
use crate::start_error::StartError;

/// Runs isolates at one isolation level.
pub trait IsolationBackend: Send + Sync {
    /// Takes the isolate to somewhere that runs its guest, and returns at once. Whatever runs it calls
    /// [`GuestContext::started`] when it is ready or has failed.
    ///
    /// # Errors
    /// When nothing could be started; the isolate is dropped then.
    fn start(&self, isolate: NewIsolate) -> Result<(), StartError>;

    /// Readies `count` isolates that fit these options, in the background.
    fn warm_up(&self, _options: &Arc<IsolateOptions>, _count: usize) {}
}

/// An isolate that does not run yet. Dropping it ends the isolate.
pub struct NewIsolate {
    #[cfg_attr(
        not(target_os = "linux"),
        expect(dead_code, reason = "only workers run isolates in another process")
    )]
    isolate: Arc<HostIsolate>,
    guest: GuestContext,
}

impl NewIsolate {
    pub(crate) fn new(isolate: Arc<HostIsolate>) -> Self {
        let guest = GuestContext::new(Arc::clone(&isolate) as _);
        Self { isolate, guest }
    }

    /// The isolate's number within its sandbox, from 0.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.guest.id()
    }

    /// What the isolate was created with.
    #[must_use]
    pub fn options(&self) -> &Arc<IsolateOptions> {
        self.guest.options()
    }

    /// For a guest that runs in this process.
    #[must_use]
    pub fn into_guest(self) -> GuestContext {
        self.guest
    }

    /// For a guest that runs in another process.
    #[cfg(target_os = "linux")]
    pub(crate) fn into_remote(self) -> crate::host::remote::RemoteGuest {
        crate::host::remote::RemoteGuest::new(self.isolate, self.guest)
    }
}
