//! An instance under test, and requests to it.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use stockade_http::{Body, BoxError, Client};
use stockade_instance::{FetchError, Instance, InstanceOptions, NoServices, Services};
use stockade_limits::IsolateOptions;
use stockade_supervisor::Supervisor;
use tokio::sync::mpsc;

use crate::observed::Observed;

pub(crate) struct Site {
    pub(crate) instance: Instance,
    pub(crate) observed: Arc<Observed>,
}

impl Site {
    pub(crate) fn new(supervisor: Supervisor) -> Self {
        Self::with(supervisor, |_| {})
    }

    pub(crate) fn with(supervisor: Supervisor, change: impl FnOnce(&mut InstanceOptions)) -> Self {
        Self::serving(supervisor, Arc::new(NoServices), change)
    }

    pub(crate) fn serving(
        supervisor: Supervisor,
        services: Arc<dyn Services>,
        change: impl FnOnce(&mut InstanceOptions),
    ) -> Self {
        let mut options = InstanceOptions::new("site", IsolateOptions::default());
        change(&mut options);
        let observed = Observed::new();
        let instance = Instance::start(options, supervisor, services, Arc::clone(&observed) as _);
        Self { instance, observed }
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Response<Body>, FetchError> {
        self.instance.fetch(get(path)).await
    }

    /// The status and the whole body.
    pub(crate) async fn read(&self, request: Request<Body>) -> (u16, String) {
        let response = self.instance.fetch(request).await.expect("a response");
        let status = response.status().as_u16();
        (status, text(response).await.expect("a body"))
    }
}

pub(crate) async fn text(response: Response<Body>) -> Result<String, BoxError> {
    let bytes = response.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

pub(crate) fn get(path: &str) -> Request<Body> {
    request(Method::GET, path, empty())
}

pub(crate) fn request(method: Method, path: &str, body: Body) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(format!("http://site.example{path}"))
        .body(body)
        .expect("a request")
}

pub(crate) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A body that is sent piece by piece.
pub(crate) fn piecewise() -> (mpsc::Sender<Result<Bytes, BoxError>>, Body) {
    let (sender, receiver) = mpsc::channel::<Result<Bytes, BoxError>>(1);
    let stream = futures_util::stream::unfold(receiver, |mut receiver| async {
        let piece = receiver.recv().await?;
        Some((piece.map(http_body::Frame::data), receiver))
    });
    (sender, StreamBody::new(stream).boxed_unsync())
}

/// Says that a client is behind the request.
pub(crate) fn from_client(mut request: Request<Body>, upgrade: bool) -> Request<Body> {
    request.extensions_mut().insert(Client {
        address: "192.0.2.7:4711".parse().expect("an address"),
        request_id: "req-1".into(),
        https: false,
        secure: None,
        upgrade,
        api_key: None,
        key: None,
        token: None,
        account: None,
    });
    request
}
