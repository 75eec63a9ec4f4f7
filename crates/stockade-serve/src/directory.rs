//! Which sites there are now, and what answers for each.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use stockade_capability::{CallPayload, Pipe};
use stockade_gateway::{Target, remove_identity, write_identity};
use stockade_http::{Body, Client, Problem, empty_body};
use stockade_instance::{FetchError, Instance, Transport};
use stockade_protocol::GuestError;

use crate::deployments::{Sticky, VersionRef};
use crate::development::{self, DevelopmentStatus};
use crate::receipts::{SiteReceipts, receipted};

/// What answers for a site.
#[derive(Clone)]
pub(crate) struct Answering {
    /// Its code, if it has any.
    pub(crate) instance: Option<Instance>,
    /// Its files, if it has any.
    pub(crate) assets: Option<Arc<dyn Target>>,
    /// Code answers everything; files are for its binding.
    pub(crate) code_first: bool,
    /// What receipts of its requests state about it; none where it has none.
    pub(crate) receipts: Option<Arc<SiteReceipts>>,
}

/// What answers for a site: versions of its code, each for its share of the requests.
pub(crate) struct Traffic {
    shares: Vec<TrafficShare>,
    sticky: Sticky,
    /// Counts requests that may go to any version.
    turn: AtomicU64,
}

/// A version, and the requests of a hundred that it gets.
pub(crate) struct TrafficShare {
    pub(crate) version: VersionRef,
    pub(crate) percent: u8,
    pub(crate) answering: Arc<Answering>,
    pub(crate) counts: Arc<VersionCounts>,
}

/// What clients asked of a version since it was started.
#[derive(Default)]
pub(crate) struct VersionCounts {
    requests: AtomicU64,
    errors: AtomicU64,
}

impl VersionCounts {
    /// Requests whose responses have begun.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Requests whose responses have begun with a status of 500 or more.
    pub(crate) fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, status: StatusCode) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if status.is_server_error() {
            self.errors.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The cookie that names the version which a client stays with.
const VERSION_COOKIE: &str = "stockade-version";

/// How long a client stays with a version, in seconds: a day.
const COOKIE_LIFE: u32 = 86_400;

impl Traffic {
    pub(crate) fn new(shares: Vec<TrafficShare>, sticky: Sticky) -> Self {
        Self {
            shares,
            sticky,
            turn: AtomicU64::new(0),
        }
    }

    /// The version for a request with these headers, and whether its response is to name the version in a cookie.
    fn choose(&self, headers: Option<&HeaderMap>) -> Option<(&TrafficShare, bool)> {
        if let [only] = self.shares.as_slice() {
            return Some((only, false));
        }
        // Of a hundred requests in a row each version gets its share: 61 and 100 have no common divisor.
        let next = || self.turn.fetch_add(1, Ordering::Relaxed).wrapping_mul(61);
        match (&self.sticky, headers) {
            (Sticky::Cookie, Some(headers)) => match self.named_by_cookie(headers) {
                Some(share) => Some((share, false)),
                None => Some((self.at(next())?, true)),
            },
            (Sticky::Header(name), Some(headers)) => {
                let value = headers.get(name.as_str());
                let place = value.map_or_else(next, |value| {
                    let mut hasher = DefaultHasher::new();
                    value.as_bytes().hash(&mut hasher);
                    hasher.finish()
                });
                Some((self.at(place)?, false))
            }
            _ => Some((self.at(next())?, false)),
        }
    }

    /// The version at one of a hundred places.
    fn at(&self, place: u64) -> Option<&TrafficShare> {
        let place = place % 100;
        let mut end = 0;
        let mut shares = self.shares.iter();
        shares.find(|share| {
            end += u64::from(share.percent);
            place < end
        })
    }

    fn named_by_cookie(&self, headers: &HeaderMap) -> Option<&TrafficShare> {
        let cookies = headers.get_all(COOKIE).iter();
        let mut pairs = cookies.flat_map(|value| value.as_bytes().split(|byte| *byte == b';'));
        pairs.find_map(|pair| {
            let value = pair.trim_ascii().strip_prefix(VERSION_COOKIE.as_bytes())?;
            let value = value.strip_prefix(b"=")?;
            let mut shares = self.shares.iter();
            shares.find(|share| share.version.as_str().as_bytes() == value)
        })
    }
}

/// Makes the client stay with a version.
fn set_cookie(response: &mut Response<Body>, version: &VersionRef, secure: bool) {
    let secure = if secure { "; Secure" } else { "" };
    let text = format!(
        "{VERSION_COOKIE}={version}; Path=/; Max-Age={COOKIE_LIFE}; HttpOnly; SameSite=Lax{secure}"
    );
    if let Ok(value) = HeaderValue::try_from(text) {
        response.headers_mut().append(SET_COOKIE, value);
    }
}

/// Sites by name. Replaced as a whole; requests that run go on with what they began with.
#[derive(Default)]
pub(crate) struct Directory {
    sites: ArcSwap<HashMap<String, Arc<Traffic>>>,
    /// Under `stockade dev` alone.
    development: Option<Arc<DevelopmentStatus>>,
}

impl Directory {
    pub(crate) fn new(development: Option<Arc<DevelopmentStatus>>) -> Self {
        Self {
            sites: ArcSwap::default(),
            development,
        }
    }

    pub(crate) fn replace(&self, sites: HashMap<String, Arc<Traffic>>) {
        self.sites.store(Arc::new(sites));
    }

    fn traffic(&self, name: &str) -> Option<Arc<Traffic>> {
        self.sites.load().get(name).map(Arc::clone)
    }

    /// What answers something that comes from another site or by a connection.
    fn find(&self, name: &str) -> Option<Arc<Answering>> {
        let traffic = self.traffic(name)?;
        let (share, _) = traffic.choose(None)?;
        Some(Arc::clone(&share.answering))
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

/// Answers a client.
pub(crate) async fn respond(site: &Answering, request: Request<Body>) -> Response<Body> {
    receipted(site.receipts.as_ref(), request, |request| async move {
        let answered = answer(site, request).await;
        answered.unwrap_or_else(|error| error.problem().into_response())
    })
    .await
}

/// Answers a client under `stockade dev`.
async fn respond_to_developer(
    directory: &Directory,
    site: &Answering,
    status: &DevelopmentStatus,
    request: Request<Body>,
) -> Response<Body> {
    let asked = match development::before_site(status, &request) {
        Ok(asked) => asked,
        Err(response) => return *response,
    };
    if development::asks_for_run(request.uri()) {
        let wanted = development::Wanted::read(&request);
        drop(request);
        return match wanted {
            Ok(wanted) => run_scheduled(directory, site, &wanted).await,
            Err(refused) => *refused,
        };
    }
    match answer(site, request).await {
        Ok(mut response) => {
            development::after_answer(asked, &mut response);
            response
        }
        Err(error) => development::after_failure(status, asked, &error),
    }
}

/// Runs `scheduled` of the site that a developer names, or of the one that answers for the host.
async fn run_scheduled(
    directory: &Directory,
    site: &Answering,
    wanted: &development::Wanted,
) -> Response<Body> {
    let named = match &wanted.instance {
        Some(name) => match directory.find(name) {
            Some(named) => named.instance.clone(),
            None => {
                let sites = directory.sites.load();
                let mut names: Vec<&str> = sites.keys().map(String::as_str).collect();
                names.sort_unstable();
                let names = names.join(", ");
                let text = format!("there is no instance {name:?}\n  fix: name one of {names}");
                return development::not_found(&text);
            }
        },
        None => site.instance.clone(),
    };
    match named {
        Some(instance) => wanted.run(&instance).await,
        None => development::not_found("the instance has no code, and so nothing to run"),
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
        let directory = Arc::clone(&self.directory);
        let traffic = directory.traffic(&self.name);
        Box::pin(async move {
            let chosen = traffic
                .as_ref()
                .and_then(|traffic| traffic.choose(Some(request.headers())));
            let Some((share, new)) = chosen else {
                let gone = "The site is being replaced. Try again shortly.";
                return Problem::new(StatusCode::SERVICE_UNAVAILABLE, gone).into_response();
            };
            let secure = request.uri().scheme() == Some(&http::uri::Scheme::HTTPS);
            let mut response = match &directory.development {
                Some(status) => {
                    respond_to_developer(&directory, &share.answering, status, request).await
                }
                None => respond(&share.answering, request).await,
            };
            share.counts.add(response.status());
            if new {
                set_cookie(&mut response, &share.version, secure);
            }
            response
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traffic(shares: &[(&str, u8)], sticky: Sticky) -> Traffic {
        let shares = shares.iter().map(|(version, percent)| TrafficShare {
            version: VersionRef::parse(version).unwrap(),
            percent: *percent,
            answering: Arc::new(Answering {
                instance: None,
                assets: None,
                code_first: false,
                receipts: None,
            }),
            counts: Arc::default(),
        });
        Traffic::new(shares.collect(), sticky)
    }

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::try_from(value).unwrap());
        headers
    }

    const A: &str = "00112233445566aa";

    #[test]
    fn each_version_gets_its_share() {
        let traffic = traffic(&[(A, 70), ("file", 30)], Sticky::None);
        let file = (0..1000).filter(|_| {
            let (share, new) = traffic.choose(Some(&HeaderMap::new())).unwrap();
            assert!(!new);
            share.version == VersionRef::File
        });
        assert_eq!(file.count(), 300);
    }

    #[test]
    fn client_stays_with_the_version_of_its_cookie_while_that_has_a_share() {
        let traffic = traffic(&[(A, 99), ("file", 1)], Sticky::Cookie);
        let of = |cookie: &str| {
            let headers = headers("cookie", cookie);
            let (share, new) = traffic.choose(Some(&headers)).unwrap();
            (share.version.to_string(), new)
        };
        for _ in 0..100 {
            assert_eq!(
                of("a=b; stockade-version=file;c=d"),
                ("file".to_owned(), false)
            );
        }
        // A version that has no share any more, or that the client made up.
        assert!(of("stockade-version=ffffffffffffffff").1);
        assert!(of("stockade-versions=file").1);
        let mut response = Response::new(stockade_http::empty_body());
        set_cookie(&mut response, &VersionRef::File, true);
        let cookie = response.headers()[SET_COOKIE].to_str().unwrap();
        assert_eq!(
            cookie,
            "stockade-version=file; Path=/; Max-Age=86400; HttpOnly; SameSite=Lax; Secure"
        );
    }

    #[test]
    fn equal_values_of_a_header_get_equal_versions() {
        let traffic = traffic(
            &[(A, 50), ("file", 50)],
            Sticky::Header("x-user".to_owned()),
        );
        let of = |value: &str| {
            let headers = headers("x-user", value);
            traffic.choose(Some(&headers)).unwrap().0.version.clone()
        };
        let users: Vec<String> = (0..100).map(|user| user.to_string()).collect();
        let first: Vec<_> = users.iter().map(|user| of(user)).collect();
        let again: Vec<_> = users.iter().map(|user| of(user)).collect();
        assert_eq!(first, again);
        assert!(
            first.contains(&VersionRef::File) && first.iter().any(|one| *one != VersionRef::File)
        );
    }
}
