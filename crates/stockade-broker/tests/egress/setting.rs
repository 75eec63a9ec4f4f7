//! What the cases have in common: a broker whose refusals are recorded, and an instance's egress.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::http::{Request, Response};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Full};
use parking_lot::Mutex;
use stockade_broker::{
    Audit, Broker, BrokerOptions, Egress, EgressError, EgressPolicy, Outcome, Reason, Refusal,
    ResolverSource, Rule, Secret, SecretValue, Usage,
};
use stockade_http::{Body, BoxError, HostPattern, Scheme};
use tokio::sync::mpsc;

/// Records everything.
pub(crate) struct Recorded {
    refusals: Mutex<Vec<Refusal>>,
    used: mpsc::UnboundedSender<Usage>,
}

impl Audit for Recorded {
    fn refused(&self, refusal: &Refusal) {
        self.refusals.lock().push(refusal.clone());
    }

    fn used(&self, usage: &Usage) {
        let _ = self.used.send(usage.clone());
    }
}

/// A broker and what was reported to its operator.
pub(crate) struct Setting {
    pub(crate) broker: Broker,
    recorded: Arc<Recorded>,
    used: tokio::sync::Mutex<mpsc::UnboundedReceiver<Usage>>,
}

impl Setting {
    pub(crate) fn new() -> Self {
        Self::with(|_| ())
    }

    pub(crate) fn with(change: impl FnOnce(&mut BrokerOptions)) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        let recorded = Arc::new(Recorded {
            refusals: Mutex::default(),
            used: sender,
        });
        let mut options = BrokerOptions {
            audit: recorded.clone(),
            ..BrokerOptions::default()
        };
        // Nothing must leave this machine, so no name resolves unless the case says where.
        options.resolver = ResolverSource::Servers(Vec::new());
        change(&mut options);
        let broker = Broker::new(options).unwrap();
        Self {
            broker,
            recorded,
            used: tokio::sync::Mutex::new(receiver),
        }
    }

    pub(crate) fn with_dns(server: SocketAddr) -> Self {
        Self::with(|options| options.resolver = ResolverSource::Servers(vec![server]))
    }

    pub(crate) fn trusting(root: PathBuf, dns: SocketAddr) -> Self {
        Self::with(|options| {
            options.extra_roots = vec![root];
            options.resolver = ResolverSource::Servers(vec![dns]);
        })
    }

    /// The way out of instance `acme`, which may reach all of loopback.
    pub(crate) fn open(&self, change: impl FnOnce(&mut EgressPolicy)) -> Arc<Egress> {
        self.broker
            .egress("acme", self.policy(change), Default::default())
            .unwrap()
    }

    pub(crate) fn policy(&self, change: impl FnOnce(&mut EgressPolicy)) -> EgressPolicy {
        let mut policy = EgressPolicy {
            rules: vec![rule(&["*", "127.0.0.1", "::1"])],
            allow_private: vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()],
            ..EgressPolicy::default()
        };
        policy.limits.connect_timeout = Duration::from_secs(5);
        policy.limits.requests_per_second = None;
        change(&mut policy);
        policy
    }

    /// A way out with one secret `KEY`, bound to `hosts`; and its placeholder.
    pub(crate) fn open_with_secret(
        &self,
        hosts: &[&str],
        value: &str,
        change: impl FnOnce(&mut Secret),
    ) -> (Arc<Egress>, String) {
        let mut secret = Secret {
            name: "KEY".to_owned(),
            value: SecretValue::new(value),
            hosts: hosts
                .iter()
                .map(|host| HostPattern::parse(host).unwrap())
                .collect(),
            over_plain_text: true,
            in_urls: false,
        };
        change(&mut secret);
        let secrets = self.broker.secrets("acme", vec![secret]).unwrap();
        let placeholder = secrets.environment().next().unwrap().1.to_owned();
        (
            self.broker
                .egress("acme", self.policy(|_| ()), secrets)
                .unwrap(),
            placeholder,
        )
    }

    pub(crate) fn refusals(&self) -> Vec<Refusal> {
        std::mem::take(&mut *self.recorded.refusals.lock())
    }

    pub(crate) fn reasons(&self) -> Vec<Reason> {
        self.refusals()
            .into_iter()
            .map(|refusal| refusal.reason)
            .collect()
    }

    /// The next request or socket that is over.
    pub(crate) async fn used(&self) -> Usage {
        self.used.lock().await.recv().await.unwrap()
    }

    pub(crate) async fn ended(&self, expected: Outcome) {
        assert_eq!(self.used().await.outcome, expected);
    }
}

pub(crate) fn rule(hosts: &[&str]) -> Rule {
    Rule {
        name: "test".into(),
        hosts: hosts
            .iter()
            .map(|host| HostPattern::parse(host).unwrap())
            .collect(),
        ports: vec![1..=65535],
        schemes: vec![Scheme::Http, Scheme::Https],
        ..Rule::default()
    }
}

pub(crate) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

pub(crate) fn get_request(url: &str) -> Request<Body> {
    Request::get(url).body(empty()).unwrap()
}

pub(crate) async fn get(egress: &Arc<Egress>, url: &str) -> Result<Response<Body>, EgressError> {
    // As a host would: on a task of its own, so it must be Send.
    let fetch = egress.clone().fetch(get_request(url));
    tokio::spawn(fetch).await.unwrap()
}

pub(crate) async fn text(response: Response<Body>) -> String {
    String::from_utf8(bytes(response).await.unwrap().to_vec()).unwrap()
}

pub(crate) async fn bytes(response: Response<Body>) -> Result<Bytes, BoxError> {
    response
        .into_body()
        .collect()
        .await
        .map(|body| body.to_bytes())
}

/// The error of a body, which must be one of the broker's.
pub(crate) fn own(error: BoxError) -> EgressError {
    *error.downcast::<EgressError>().unwrap()
}
