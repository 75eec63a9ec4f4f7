//! What a guest may ask of its host.

use futures_util::future::BoxFuture;
use http::{Request, Response};
use stockade_http::{Body, UpstreamSocket};
use stockade_protocol::{GuestError, Payload};

/// Data with streams of bytes in it. A stream's mark in the data, `s` and a number, counts in `streams`;
/// [`Payload`] describes marks.
#[derive(Default)]
pub struct Parcel {
    /// The data.
    pub payload: Payload,
    /// Each at most once in the data.
    pub streams: Vec<Body>,
}

impl From<Payload> for Parcel {
    fn from(payload: Payload) -> Self {
        Self {
            payload,
            streams: Vec::new(),
        }
    }
}

impl std::fmt::Debug for Parcel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parcel")
            .field("payload", &self.payload)
            .field("streams", &self.streams.len())
            .finish()
    }
}

/// What the guests of one instance may ask of their host. Every argument is hostile. A guest that loses
/// interest drops the future.
pub trait Services: Send + Sync + 'static {
    /// `fetch(url)`. Redirects are the guest's.
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

    /// `env.NAME.fetch(request)`. The host of the URL is the guest's and means nothing.
    fn binding_fetch(
        &self,
        binding: &str,
        request: Request<Body>,
    ) -> BoxFuture<'static, Result<Response<Body>, GuestError>>;

    /// `env.NAME.method(...args)`; `args` is a JSON array.
    fn binding_call(
        &self,
        binding: &str,
        method: String,
        args: Parcel,
    ) -> BoxFuture<'static, Result<Parcel, GuestError>>;
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

    fn binding_fetch(
        &self,
        binding: &str,
        _request: Request<Body>,
    ) -> BoxFuture<'static, Result<Response<Body>, GuestError>> {
        refuse(format!("there is no binding {binding:?}"))
    }

    fn binding_call(
        &self,
        binding: &str,
        _method: String,
        _args: Parcel,
    ) -> BoxFuture<'static, Result<Parcel, GuestError>> {
        refuse(format!("there is no binding {binding:?}"))
    }
}
