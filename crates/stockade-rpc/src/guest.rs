//! An isolate that a server calls into.

use std::future::Future;
use std::pin::Pin;

use stockade_supervisor::IsolateHandle;

/// An isolate whose module is ready to be called. Dropping it ends the isolate.
pub struct Guest {
    pub(crate) handle: IsolateHandle,
    pub(crate) ended: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Guest {
    /// An isolate and the receiver of its events: a future that is done once the isolate has ended. The
    /// server polls it, and nobody else takes the isolate's events.
    #[must_use]
    pub fn new(handle: IsolateHandle, ended: impl Future<Output = ()> + Send + 'static) -> Self {
        Self {
            handle,
            ended: Box::pin(ended),
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.handle.destroy();
    }
}
