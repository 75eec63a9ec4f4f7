//! Which sites there are now, and what answers for each.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use http::{Method, Request, Response, StatusCode};
use stockade_capability::{CallPayload, Pipe};
use stockade_gateway::{Target, remove_identity, write_identity};
use stockade_http::{Body, Client, Problem, empty_body};
use stockade_instance::{FetchError, Instance, Transport};
use stockade_protocol::GuestError;

/// What answers for a site.
#[derive(Clone)]
pub(crate) struct Answering {
    /// Its code, if it has any.
    pub(crate) instance: Option<Instance>,
    /// Its files, if it has any.
    pub(crate) assets: Option<Arc<dyn Target>>,
    /// Code answers everything; files are for its binding.
    pub(crate) code_first: bool,
}

/// Sites by name. Replaced as a whole; requests that run go on with what they began with.
#[derive(Default)]
pub(crate) struct Directory(ArcSwap<HashMap<String, Arc<Answering>>>);

impl Directory {
    pub(crate) fn replace(&self, sites: HashMap<String, Arc<Answering>>) {
        self.0.store(Arc::new(sites));
    }

    fn find(&self, name: &str) -> Option<Arc<Answering>> {
        self.0.load().get(name).map(Arc::clone)
    }

    /// A request of another site. Who the client is it learns from the gateway alone: of a request that the
    /// caller passes on while it answers it, and of no other.
    pub(crate) async fn fetch(
        &self,
        name: &str,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, GuestError> {
        match request.extensions().get::<Client>().cloned() {
            Some(client) => write_identity(request.headers_mut(), &client),
            None => remove_identity(request.headers_mut()),
        }
        let gone = || GuestError::new(format!("{name}: there is no such site any more"));
        let site = self.find(name).ok_or_else(gone)?;
        match answer(&site, request).await {
            Ok(response) => Ok(response),
            Err(error) => Err(site_error(name, error)),
        }
    }

    /// Gives a connection to the handler of a site, and waits until the handler is done.
    pub(crate) async fn connect(
        &self,
        name: &str,
        pipe: Pipe,
        transport: Transport,
    ) -> Result<(), FetchError> {
        let site = self.find(name);
        match site.as_ref().and_then(|site| site.instance.as_ref()) {
            Some(instance) => instance.connect(pipe, transport).await,
            None => Err(FetchError::Draining),
        }
    }

    /// A call of another site.
    pub(crate) async fn call(
        &self,
        name: &str,
        method: &str,
        args: CallPayload,
    ) -> Result<CallPayload, GuestError> {
        let site = self.find(name);
        let instance = site.as_ref().and_then(|site| site.instance.as_ref());
        let gone = || GuestError::new(format!("{name}: there is no code to call"));
        let called = instance.ok_or_else(gone)?.call(method, args).await;
        called.map_err(|error| site_error(name, error))
    }
}

async fn answer(site: &Answering, request: Request<Body>) -> Result<Response<Body>, FetchError> {
    match (&site.instance, &site.assets) {
        (Some(instance), None) => instance.fetch(request).await,
        (None, Some(assets)) => Ok(assets.handle(request).await),
        (Some(instance), Some(assets)) => both(site, instance, &**assets, request).await,
        // The configuration refuses such a site.
        (None, None) => {
            Ok(Problem::new(StatusCode::NOT_FOUND, "There is nothing here.").into_response())
        }
    }
}

/// Why another site did not answer. An error that a handler of that site threw reaches the caller: both belong to the
/// operator who bound them.
fn site_error(site: &str, error: FetchError) -> GuestError {
    match error {
        FetchError::Threw(error) => error,
        other => GuestError::new(format!("{site}: {other}")),
    }
}

/// Files, and code for paths without a file. Where code comes first it asks for files through its binding.
async fn both(
    site: &Answering,
    instance: &Instance,
    assets: &dyn Target,
    request: Request<Body>,
) -> Result<Response<Body>, FetchError> {
    let readable = request.method() == Method::GET || request.method() == Method::HEAD;
    if site.code_first || !readable {
        return instance.fetch(request).await;
    }
    let file = assets.handle(without_body(&request)).await;
    if file.status() == StatusCode::NOT_FOUND {
        return instance.fetch(request).await;
    }
    Ok(file)
}

/// The request again, for a reader that takes no body.
fn without_body(request: &Request<Body>) -> Request<Body> {
    let mut copy = Request::new(empty_body());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    *copy.extensions_mut() = request.extensions().clone();
    copy
}

/// A site, for the gateway. Finds at each request what answers for it now.
pub(crate) struct SiteTarget {
    pub(crate) name: String,
    pub(crate) directory: Arc<Directory>,
}

impl Target for SiteTarget {
    fn handle(&self, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        let site = self.directory.find(&self.name);
        Box::pin(async move {
            let Some(site) = site else {
                let gone = "The site is being replaced. Try again shortly.";
                return Problem::new(StatusCode::SERVICE_UNAVAILABLE, gone).into_response();
            };
            match answer(&site, request).await {
                Ok(response) => response,
                Err(error) => error.problem().into_response(),
            }
        })
    }
}
