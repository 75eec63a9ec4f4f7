//! One instance's way out.
//!
//! The order is fixed: count the call, read the target, hold it against the rules, clean the header,
//! fill in secrets, find a place, resolve, check every address, connect to one of exactly these. A
//! step that fails ends it, and nothing was sent.

mod send;

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, Method, Request, Response, Uri};
use http_body::Body as _;
use stockade_http::Body;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::audit::{Action, Audit, Reason, Refusal};
use crate::budget::Quota;
use crate::connect::{ConnectFailure, Connector};
use crate::error::EgressError;
use crate::headers;
use crate::in_flight::{Begun, InFlight};
use crate::places::{Missed, Places};
use crate::policy::{Admitted, Denied, EgressPolicy, Rule};
use crate::pool::Pool;
use crate::resolve::Resolver;
use crate::secrets::Secrets;
use crate::target::Target;

use send::Outgoing;

/// What a fetch waits for when too many are under way.
const PLACE: &str = "waiting for earlier fetches to end";

/// One instance's way out: its policy, secrets, connections and budgets.
pub struct Egress {
    pub(crate) instance: Arc<str>,
    pub(crate) policy: EgressPolicy,
    pub(crate) secrets: Secrets,
    pub(crate) audit: Arc<dyn Audit>,
    pub(crate) quota: Arc<Quota>,
    pub(crate) connector: Connector,
    resolver: Resolver,
    pub(crate) pool: Arc<Pool>,
    places: Places,
    pub(crate) sockets: Arc<Semaphore>,
}

/// What an [`Egress`] is made of.
pub(crate) struct Parts {
    pub(crate) instance: Arc<str>,
    pub(crate) policy: EgressPolicy,
    pub(crate) secrets: Secrets,
    pub(crate) audit: Arc<dyn Audit>,
    pub(crate) quota: Quota,
    pub(crate) connector: Connector,
    pub(crate) resolver: Resolver,
}

impl Egress {
    pub(crate) fn new(mut parts: Parts) -> Self {
        parts.policy.limits = parts.policy.limits.bounded();
        let limits = &parts.policy.limits;
        let sockets = parts.policy.limits.websockets.min(Semaphore::MAX_PERMITS);
        Self {
            instance: parts.instance,
            secrets: parts.secrets,
            audit: parts.audit,
            quota: Arc::new(parts.quota),
            connector: parts.connector,
            resolver: parts.resolver,
            pool: Arc::default(),
            places: Places::new(limits.concurrent, limits.queued, limits.head_timeout),
            sockets: Arc::new(Semaphore::new(sockets)),
            policy: parts.policy,
        }
    }

    /// Sends a request, under policy. The URI must be absolute.
    ///
    /// Redirects are answers like others. The future may be dropped at any time: the request ends then.
    ///
    /// # Errors
    /// See [`EgressError`]. Errors of the body come from the body; they are `EgressError`s too.
    pub async fn fetch(
        self: Arc<Self>,
        request: Request<Body>,
    ) -> Result<Response<Body>, EgressError> {
        let started = Instant::now();
        let (parts, body) = request.into_parts();
        let mut target = self.target(Action::Fetch, &parts.uri)?;
        if target.websocket {
            return Err(invalid("the URL", "fetch takes http:// and https:// only"));
        }
        if matches!(parts.method.as_str(), "CONNECT" | "TRACE" | "TRACK") {
            return Err(invalid(
                "the method",
                "fetch does not allow CONNECT, TRACE and TRACK",
            ));
        }
        let body = body_for(&parts.method, body)?;
        let admitted = self.admit(Action::Fetch, &target, &parts.method)?;
        let mut headers = parts.headers;
        let declared = headers::clean_request(&mut headers)?;
        let refuse =
            |target: &Target, reason| self.refuse_under(&admitted, Action::Fetch, target, reason);
        let filled = self.fill(&mut headers, &mut target);
        filled.map_err(|reason| refuse(&target, reason))?;
        let place = self.places.take().await.map_err(|missed| match missed {
            Missed::Full { limit } => refuse(&target, Reason::Concurrency { limit }),
            Missed::TimedOut { limit } => timed_out(&target, PLACE, limit),
        })?;
        self.quota
            .request()
            .map_err(|reason| refuse(&target, reason))?;
        let outgoing = Outgoing {
            method: parts.method,
            target,
            headers,
            declared,
            via: admitted.way(),
        };
        let limit = self.policy.limits.connect_timeout;
        let deadline = Instant::now() + limit;
        let checked = self.checked_addresses(Action::Fetch, &admitted, &outgoing.target);
        let (rule, addresses) = tokio::time::timeout_at(deadline, checked)
            .await
            .unwrap_or_else(|_| Err(timed_out(&outgoing.target, "resolving the name", limit)))?;
        let in_flight = InFlight::new(Begun {
            instance: self.instance.clone(),
            audit: self.audit.clone(),
            quota: self.quota.clone(),
            action: Action::Fetch,
            target: outgoing.target.to_string(),
            rule: rule.name.clone(),
            started,
            place,
        });
        self.send(in_flight, outgoing, body, addresses, deadline)
            .await
    }

    /// Counts the call and reads where it goes.
    pub(crate) fn target(&self, action: Action, uri: &Uri) -> Result<Target, EgressError> {
        let target = Target::parse(uri);
        if let Err(reason) = self.quota.call() {
            let text = target
                .as_ref()
                .map_or_else(|_| "an invalid URL".to_owned(), Target::to_string);
            return Err(self.refuse(
                action,
                text,
                Denied {
                    rule: None,
                    reason,
                    address: None,
                },
            ));
        }
        target.map_err(|error| invalid("the URL", error))
    }

    pub(crate) fn admit(
        &self,
        action: Action,
        target: &Target,
        method: &Method,
    ) -> Result<Admitted<'_>, EgressError> {
        let admitted = self.policy.admit(target, method);
        admitted.map_err(|denied| self.refuse(action, target.to_string(), denied))
    }

    /// Puts secrets in the places of their placeholders.
    pub(crate) fn fill(&self, headers: &mut HeaderMap, target: &mut Target) -> Result<(), Reason> {
        self.secrets.fill_headers(headers, target)?;
        self.secrets.fill_path(target)
    }

    pub(crate) fn refuse(&self, action: Action, target: String, denied: Denied) -> EgressError {
        let refusal = Refusal {
            instance: self.instance.clone(),
            action,
            target,
            rule: denied.rule,
            reason: denied.reason,
            address: denied.address,
        };
        self.audit.refused(&refusal);
        EgressError::Refused(Box::new(refusal))
    }

    /// Refuses what a rule would allow.
    pub(crate) fn refuse_under(
        &self,
        admitted: &Admitted<'_>,
        action: Action,
        target: &Target,
        reason: Reason,
    ) -> EgressError {
        let rule = admitted.first_rule();
        self.refuse(
            action,
            target.to_string(),
            Denied {
                rule,
                reason,
                address: None,
            },
        )
    }

    /// The addresses of a target, all checked, and the rule that allows them.
    pub(crate) async fn checked_addresses<'a>(
        &self,
        action: Action,
        admitted: &Admitted<'a>,
        target: &Target,
    ) -> Result<(&'a Rule, Vec<IpAddr>), EgressError> {
        let resolved = match admitted.via() {
            Some(via) => via.addresses(&target.host).await,
            None => self.resolver.addresses(&target.host).await,
        };
        let addresses = resolved.map_err(|failure| EgressError::Resolve {
            target: target.to_string(),
            why: failure.to_string(),
        })?;
        let rule = admitted.check(&addresses);
        let rule = rule.map_err(|denied| self.refuse(action, target.to_string(), denied))?;
        Ok((rule, addresses))
    }
}

/// The body to send; none for methods that have none (<https://fetch.spec.whatwg.org/#request-class>).
fn body_for(method: &Method, body: Body) -> Result<Option<Body>, EgressError> {
    let is_empty = body.is_end_stream() || body.size_hint().exact() == Some(0);
    match *method {
        Method::GET | Method::HEAD if is_empty => Ok(None),
        Method::GET | Method::HEAD => Err(invalid("the request", "GET and HEAD have no body")),
        Method::OPTIONS | Method::DELETE if is_empty => Ok(None),
        _ => Ok(Some(body)),
    }
}

pub(crate) fn invalid(what: &'static str, why: impl ToString) -> EgressError {
    EgressError::Invalid {
        what,
        why: why.to_string(),
    }
}

pub(crate) fn timed_out(
    target: &Target,
    what: &'static str,
    limit: std::time::Duration,
) -> EgressError {
    EgressError::TimedOut {
        target: target.to_string(),
        what,
        limit,
    }
}

pub(crate) fn connect_error(target: &Target, failure: &ConnectFailure) -> EgressError {
    let (target, why) = (target.to_string(), failure.to_string());
    match failure {
        ConnectFailure::Tcp(_) => EgressError::Connect { target, why },
        ConnectFailure::Tls(_) => EgressError::Tls { target, why },
    }
}
