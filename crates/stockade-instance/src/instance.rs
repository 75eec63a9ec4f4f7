//! An instance: its mirrors, its queue and the way of a request through them.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use stockade_supervisor::Supervisor;

use crate::error::FetchError;
use crate::http::Body;
use crate::observer::Observer;
use crate::options::InstanceOptions;
use crate::services::{Parcel, Services};
use crate::stats::{Drained, InstanceStats};

/// One site's code, running at its limits. Cheap to clone; dropping the last clone ends its mirrors.
#[derive(Clone)]
pub struct Instance {
    inner: Arc<Inner>,
}

struct Inner {
    options: InstanceOptions,
    _supervisor: Supervisor,
    _services: Arc<dyn Services>,
    _observer: Arc<dyn Observer>,
}

impl Instance {
    /// Starts what the options ask for, in the background; [`Instance::ready`] waits for it. Must be
    /// called within a tokio runtime.
    #[must_use]
    pub fn start(
        options: InstanceOptions,
        supervisor: Supervisor,
        services: Arc<dyn Services>,
        observer: Arc<dyn Observer>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                options,
                _supervisor: supervisor,
                _services: services,
                _observer: observer,
            }),
        }
    }

    /// What it was started with.
    #[must_use]
    pub fn options(&self) -> &InstanceOptions {
        &self.inner.options
    }

    /// Gives a request to a mirror and waits for the head of its response. Dropping the future, or the
    /// response's body, aborts the request in the guest.
    ///
    /// # Errors
    /// Why there is no response of the guest; [`FetchError::status`] is what to answer.
    pub async fn fetch(&self, _request: Request<Body>) -> Result<Response<Body>, FetchError> {
        Err(FetchError::Draining)
    }

    /// Calls a method that the guest's module offers to other instances; `args` is a JSON array.
    ///
    /// # Errors
    /// Why there is no value.
    pub async fn call(&self, _method: &str, _args: Parcel) -> Result<Parcel, FetchError> {
        Err(FetchError::Draining)
    }

    /// Takes no more requests, lets those that run come to their end, `waitUntil` included, and ends the
    /// mirrors; at the deadline in any case.
    pub async fn drain(&self, _deadline: Duration) -> Drained {
        Drained::default()
    }

    /// What it is doing now.
    #[must_use]
    pub fn stats(&self) -> InstanceStats {
        InstanceStats::default()
    }

    /// Waits for the first mirror; at once where none is wanted.
    ///
    /// # Errors
    /// Why the first attempt to start one failed.
    pub async fn ready(&self) -> Result<(), FetchError> {
        Err(FetchError::Draining)
    }
}
