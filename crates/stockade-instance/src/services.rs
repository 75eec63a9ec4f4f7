//! What a guest may ask of its host.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::{Request, Response};
use stockade_capability::{Capability, Owner};
use stockade_http::{Body, UpstreamSocket};
use stockade_protocol::GuestError;

/// What the guests of one instance may ask of their host. Every argument is hostile. When a guest cancels what it
/// asked for, the future is dropped.
pub trait Services: Send + Sync + 'static {
    /// `fetch(url)`. The guest follows redirects itself.
    fn fetch(
        &self,
        request: Request<Body>,
    ) -> BoxFuture<'static, Result<Response<Body>, GuestError>>;

    /// `new WebSocket(url, protocols)`.
    fn websocket(
        &self,
        url: String,
        protocols: Vec<String>,
    ) -> BoxFuture<'static, Result<UpstreamSocket, GuestError>>;

    /// What the instance was granted as `env.NAME`.
    fn capability(&self, name: &str) -> Option<Arc<dyn Capability>>;

    /// A mirror of the instance has ended: every capability closes what that mirror holds open.
    fn ended(&self, owner: &Owner);
}

/// Refuses everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoServices;

fn refuse<T: Send + 'static>(what: String) -> BoxFuture<'static, Result<T, GuestError>> {
    Box::pin(std::future::ready(Err(GuestError::new(what))))
}

impl Services for NoServices {
    fn fetch(
        &self,
        request: Request<Body>,
    ) -> BoxFuture<'static, Result<Response<Body>, GuestError>> {
        refuse(format!(
            "fetch of {}: nothing may be reached",
            request.uri()
        ))
    }

    fn websocket(
        &self,
        url: String,
        _protocols: Vec<String>,
    ) -> BoxFuture<'static, Result<UpstreamSocket, GuestError>> {
        refuse(format!("WebSocket to {url}: nothing may be reached"))
    }

    fn capability(&self, _name: &str) -> Option<Arc<dyn Capability>> {
        None
    }

    fn ended(&self, _owner: &Owner) {}
}
