//! Public keys of issuers of tokens that come from an address: they are fetched again and again, and replaced only by a
//! set that could be read.
//!
//! Invariants:
//! 1. The request leaves through the broker, by one rule: GET, HTTPS, the host and port of the address, and public
//!    addresses unless the configuration allows others. A redirect is not followed.
//! 2. An answer is bounded in size and time. What cannot be read changes nothing.
//! 3. Tokens cause at most one request in [`Pace::least`].

use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, CACHE_CONTROL, HeaderMap};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::BodyExt;
use stockade_auth::{JwtKeys, MAX_JWKS};
use stockade_broker::{Broker, BrokerError, Egress, EgressLimits, EgressPolicy, Rule, Secrets};
use stockade_config::JwtAuth;
use stockade_http::{HostPattern, Scheme, empty_body};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// For one request, from the name's resolution to the last byte.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long the server's start, or a reload, waits for the first answer.
const FIRST: Duration = Duration::from_secs(5);

/// How often requests may come.
#[derive(Clone, Copy)]
struct Pace {
    /// Between two requests, whatever asks for them.
    least: Duration,
    /// The first wait after a failure; it is doubled with each, up to the usual wait.
    first_retry: Duration,
}

const PACE: Pace = Pace {
    least: Duration::from_secs(30),
    first_retry: Duration::from_secs(30),
};

/// The keys of one address, and the task that fetches them.
pub(crate) struct FetchedKeys {
    /// What they are fetched by.
    from: JwtAuth,
    pub(crate) keys: Arc<JwtKeys>,
    task: JoinHandle<()>,
}

impl Drop for FetchedKeys {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Why a set was not taken.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("{0}")]
    Egress(String),
    #[error("it did not answer within {} s", TIMEOUT.as_secs())]
    Timeout,
    #[error("it answered with the status {0}")]
    Status(StatusCode),
    #[error("the answer is not a set of public keys (RFC 7517): {0}")]
    Form(String),
}

/// What the broker allows for an address.
pub(crate) fn policy(jwt: &JwtAuth, url: &Uri) -> Option<EgressPolicy> {
    let host = HostPattern::parse(url.host()?).ok()?;
    let port = url.port_u16().unwrap_or(443);
    Some(EgressPolicy {
        rules: vec![Rule {
            name: "jwks_url".into(),
            hosts: vec![host],
            ports: vec![port..=port],
            methods: Some(vec![Method::GET]),
            schemes: vec![Scheme::Https],
            ca: jwt.jwks_ca.clone(),
            ..Rule::default()
        }],
        allow_private: jwt.jwks_allow_private.clone(),
        refuse_addresses: Vec::new(),
        limits: EgressLimits {
            connect_timeout: TIMEOUT,
            head_timeout: TIMEOUT,
            idle_timeout: TIMEOUT,
            request_timeout: TIMEOUT,
            max_request_bytes: 0,
            max_response_bytes: MAX_JWKS,
            max_decoded_bytes: MAX_JWKS,
            concurrent: 1,
            ..EgressLimits::default()
        },
        ..EgressPolicy::default()
    })
}

impl FetchedKeys {
    /// Whether they are fetched as this says.
    pub(crate) fn is(&self, jwt: &JwtAuth) -> bool {
        let place = |jwt: &JwtAuth| {
            (
                jwt.jwks_url.clone(),
                jwt.jwks_refresh,
                jwt.jwks_allow_private.clone(),
                jwt.jwks_ca.clone(),
            )
        };
        place(&self.from) == place(jwt)
    }

    /// Starts to fetch the keys of a site's issuer, and waits a moment for the first answer. Without one the site
    /// refuses all tokens until there is one.
    ///
    /// # Errors
    /// A file of trusted certificates cannot be used.
    pub(crate) async fn start(
        broker: &Broker,
        site: &str,
        jwt: &JwtAuth,
        url: &Uri,
    ) -> Result<Self, BrokerError> {
        Self::start_at(PACE, broker, site, jwt, url).await
    }

    async fn start_at(
        pace: Pace,
        broker: &Broker,
        site: &str,
        jwt: &JwtAuth,
        url: &Uri,
    ) -> Result<Self, BrokerError> {
        let policy = policy(jwt, url).unwrap_or_default();
        let egress = broker.egress(site, policy, Secrets::default())?;
        let keys = Arc::<JwtKeys>::default();
        let fetching = Fetching {
            site: site.into(),
            url: url.clone(),
            refresh: jwt.jwks_refresh,
            pace,
            egress,
            keys: Arc::clone(&keys),
            failures: 0,
        };
        let (first, fetched) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(fetching.run(first));
        // Where the time is over the task goes on.
        let _ = timeout(FIRST, fetched).await;
        Ok(Self {
            from: jwt.clone(),
            keys,
            task,
        })
    }
}

/// The task's state.
struct Fetching {
    site: Arc<str>,
    url: Uri,
    refresh: Duration,
    pace: Pace,
    egress: Arc<Egress>,
    keys: Arc<JwtKeys>,
    /// Since the last answer that was taken.
    failures: u32,
}

impl Fetching {
    async fn run(mut self, first: tokio::sync::oneshot::Sender<()>) {
        let mut first = Some(first);
        loop {
            let began = Instant::now();
            let wait = self.fetch_and_report().await;
            if let Some(first) = first.take() {
                // Nobody waits any more.
                let _ = first.send(());
            }
            let keys = Arc::clone(&self.keys);
            let wanted = async {
                tokio::time::sleep_until(began + self.pace.least).await;
                keys.wanted().await;
            };
            // The wait for the next turn ends early where a token names a key that is not there.
            let _ = timeout(wait, wanted).await;
        }
    }

    /// Fetches the set once. Returns the time until the next turn.
    async fn fetch_and_report(&mut self) -> Duration {
        let fetched = timeout(TIMEOUT, self.fetch()).await;
        match fetched.unwrap_or(Err(FetchError::Timeout)) {
            Ok((count, wait)) => {
                if self.failures > 0 {
                    tracing::info!(
                        instance = &*self.site,
                        keys = count,
                        "jwks_url answers again"
                    );
                }
                self.failures = 0;
                wait
            }
            Err(error) => {
                if self.failures == 0 {
                    tracing::error!(
                        instance = &*self.site,
                        url = %self.url,
                        %error,
                        "the public keys of tokens were not fetched: those before them stay in use, and there is another attempt soon"
                    );
                }
                let wait = self
                    .pace
                    .first_retry
                    .saturating_mul(1 << self.failures.min(10));
                self.failures = self.failures.saturating_add(1);
                wait.min(self.refresh)
            }
        }
    }

    async fn fetch(&self) -> Result<(usize, Duration), FetchError> {
        let request = Request::get(self.url.clone())
            .header(ACCEPT, "application/jwk-set+json, application/json")
            .body(empty_body())
            .map_err(|error| FetchError::Egress(error.to_string()))?;
        let answer = Arc::clone(&self.egress).fetch(request).await;
        let response = answer.map_err(|error| FetchError::Egress(error.to_string()))?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status()));
        }
        let fresh = freshness(response.headers());
        let body = response.into_body().collect().await;
        let body = body.map_err(|error| FetchError::Egress(error.to_string()))?;
        let count = self
            .keys
            .replace(&body.to_bytes())
            .map_err(FetchError::Form)?;
        let wait = fresh
            .unwrap_or(self.refresh)
            .clamp(self.pace.least, self.refresh.max(self.pace.least));
        Ok((count, wait))
    }
}

/// How long an answer may be kept, by `max-age` (RFC 9111, section 5.2.2.1).
fn freshness(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all(CACHE_CONTROL).iter();
    let mut directives = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    directives.find_map(|directive| {
        let (name, seconds) = directive.trim().split_once('=')?;
        let is_age = name.eq_ignore_ascii_case("max-age");
        is_age.then(|| seconds.parse().ok().map(Duration::from_secs))?
    })
}

#[cfg(test)]
mod tests;
