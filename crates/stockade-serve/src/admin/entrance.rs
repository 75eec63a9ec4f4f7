//! Who is let in: on the control socket by the kernel's word, on the listener by key or certificate.
//!
//! A browser of an operator is an attacker's tool. A page of another site can make it send requests to this listener, and a
//! name whose address changes (DNS rebinding) makes that page's requests look like those of this site. Therefore:
//!
//! 1. The host must be an address, `localhost`, or a name of `admin.hosts`: no name that somebody else controls.
//! 2. A request of another site's page is refused, by `Sec-Fetch-Site` and by `Origin`.
//! 3. Nothing that a browser adds by itself lets a request in: keys come in the header `authorization`, never in cookies.
//!    A client certificate, which a browser does add by itself, needs 1 and 2.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Instant, SystemTime};

use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{AUTHORIZATION, ORIGIN};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use stockade_auth::{Granted, Keys};
use stockade_config::ClientAuthMode;
use stockade_gateway::Target;
use stockade_http::{BoxError, Client, bearer};
use tower_service::Service as _;

use super::api::{Admin, Caller};
use super::dashboard;
use super::document::is_open;
use super::problem::ApiError;

/// The scope that opens the admin API.
const SCOPE: &str = "admin";

const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// Answers a request of the control socket. The kernel states the client's user.
pub(crate) async fn answer_local<B>(
    router: Router,
    user: u32,
    request: Request<B>,
) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(Caller::Local { user });
    route(router, request).await
}

async fn route(mut router: Router, request: Request<Body>) -> Response<Body> {
    match router.call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// Answers the requests of the listener.
pub(crate) struct AdminTarget {
    pub(crate) admin: Arc<Admin>,
    pub(crate) router: Router,
}

/// A client that was let in.
struct Entered {
    caller: Caller,
    /// With a key: what ends the request's body and the answer when the key ends.
    key: Option<(Keys, Arc<Granted>)>,
}

impl Target for AdminTarget {
    fn handle(
        &self,
        request: Request<stockade_http::Body>,
    ) -> BoxFuture<'static, Response<stockade_http::Body>> {
        let (admin, router) = (Arc::clone(&self.admin), self.router.clone());
        Box::pin(async move {
            let mut request = request.map(Body::new);
            let entered = enter(&admin, &request);
            // Keys go no further.
            request.headers_mut().remove(AUTHORIZATION);
            let (response, key) = match entered {
                Ok(None) => (route(router, request).await, None),
                Ok(Some(Entered { caller, key })) => {
                    request.extensions_mut().insert(caller);
                    // What comes after the end of the key is not taken.
                    let request = match &key {
                        Some((keys, granted)) => request
                            .map(|body| Body::new(UntilKeyEnds::new(boxed(body), keys, granted))),
                        None => request,
                    };
                    (route(router, request).await, key)
                }
                Err(error) => (error.into_response(), None),
            };
            response.map(|body| {
                let body = boxed(body);
                match key {
                    Some((keys, granted)) if !body.is_end_stream() => {
                        UntilKeyEnds::new(body, &keys, &granted).boxed_unsync()
                    }
                    _ => body,
                }
            })
        })
    }
}

/// Lets a request in, or not. `None`: it asks for something that everybody may see.
fn enter(admin: &Admin, request: &Request<Body>) -> Result<Option<Entered>, ApiError> {
    let running = admin.running.load_full();
    let running = running.as_deref();
    let settings = running.and_then(|running| running.config.admin.as_ref());
    let settings = settings.ok_or_else(|| ApiError::unavailable("the admin API is closing"))?;
    check_host(request.uri(), &settings.hosts)?;
    check_site(request.uri(), request.headers())?;
    let readable = matches!(*request.method(), Method::GET | Method::HEAD);
    let path = request.uri().path();
    if readable && (is_open(path) || dashboard::is_file(path)) {
        return Ok(None);
    }

    let client = request.extensions().get::<Client>();
    let client = client.ok_or_else(|| ApiError::internal(&"a request without a client"))?;
    let address = client.address.ip();
    let tls = settings.tls.as_ref();
    if tls.is_some_and(|tls| tls.client_auth.mode != ClientAuthMode::None)
        && let Some(certificate) = (client.secure.as_ref()).and_then(|tls| tls.certificate.as_ref())
    {
        let caller = Caller::Certificate {
            subject: certificate.subject.clone(),
            address: address.to_string(),
        };
        return Ok(Some(Entered { caller, key: None }));
    }
    let keys = running.and_then(|running| running.keys.clone());
    let keys = keys.ok_or_else(|| ApiError::unavailable("the API keys are not open"))?;
    let refused = |reason: &'static str| {
        admin.logs.audit.of_admin_client(reason, |record| {
            record
                .text("method", request.method().as_str())
                .text("path", request.uri().path())
                .text("client", &address.to_string())
        });
    };

    // An address that guesses is answered before anything is computed for it.
    let now = Instant::now();
    if let Err(wait) = keys.failures().check(address, now) {
        let detail = "Too many wrong API keys came from this address.";
        return Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(wait));
    }
    let credential = bearer(request.headers())
        .map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, error.to_string()))?;
    let Some(key) = credential else {
        let detail = "An API key with the scope admin is needed: `authorization: Bearer KEY`.";
        return Err(unauthorized(detail, "Bearer realm=\"admin\""));
    };
    let Ok(granted) = keys.check(key, SystemTime::now()) else {
        keys.failures().failed(address, now);
        refused("key");
        let challenge = "Bearer realm=\"admin\", error=\"invalid_token\"";
        return Err(unauthorized("The API key is not valid.", challenge));
    };
    // No instance has this name: a key that is `admin` at one instance is not let in.
    if !granted.scopes().include(SCOPE, "") {
        // It is a wrong key here, and its client must not fill the audit log.
        keys.failures().failed(address, now);
        refused("scope");
        let challenge = "Bearer realm=\"admin\", error=\"insufficient_scope\", scope=\"admin\"";
        let detail = "The API key does not have the scope admin.";
        return Err(ApiError::new(StatusCode::FORBIDDEN, detail).challenge(challenge));
    }
    let caller = Caller::Key {
        id: granted.id,
        name: granted.name().to_owned(),
        address: address.to_string(),
    };
    Ok(Some(Entered {
        caller,
        key: Some((keys, Arc::new(granted))),
    }))
}

fn unauthorized(detail: &'static str, challenge: &'static str) -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, detail).challenge(challenge)
}

/// Refuses hosts that are names of somebody else's. The gateway has checked that the host is one.
fn check_host(uri: &Uri, names: &[String]) -> Result<(), ApiError> {
    let host = uri.host().unwrap_or_default();
    let is_address = host.starts_with('[') || host.parse::<std::net::Ipv4Addr>().is_ok();
    let is_known = host == "localhost" || names.iter().any(|name| name == host);
    if is_address || is_known {
        return Ok(());
    }
    Err(ApiError::new(
        StatusCode::MISDIRECTED_REQUEST,
        "The host of the request is not a name of this server. The key admin.hosts of the configuration lists its names.",
    ))
}

/// Refuses requests that a browser sends for a page of another site (https://www.w3.org/TR/fetch-metadata/).
fn check_site(uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
    let refused = || {
        let detail = "The request comes from a page of another site.";
        Err(ApiError::new(StatusCode::FORBIDDEN, detail))
    };
    for site in headers.get_all(SEC_FETCH_SITE) {
        if !matches!(site.as_bytes(), b"same-origin" | b"none") {
            return refused();
        }
    }
    let scheme = uri.scheme_str().unwrap_or_default();
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let own = format!("{scheme}://{authority}");
    for origin in headers.get_all(ORIGIN) {
        if origin.as_bytes() != own.as_bytes() {
            return refused();
        }
    }
    Ok(())
}

fn boxed(body: Body) -> stockade_http::Body {
    body.map_err(Into::into).boxed_unsync()
}

/// A body that fails when the key of its request is no longer valid.
struct UntilKeyEnds {
    body: stockade_http::Body,
    ended: BoxFuture<'static, ()>,
}

impl UntilKeyEnds {
    fn new(body: stockade_http::Body, keys: &Keys, granted: &Arc<Granted>) -> Self {
        let ended = Box::pin(keys.until_invalid(granted));
        Self { body, ended }
    }
}

impl http_body::Body for UntilKeyEnds {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.ended.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err("the API key is no longer valid".into())));
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
