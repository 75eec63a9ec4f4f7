//! Routes, and the table that finds the one for a request.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;
use stockade_http::{EncodedSlashes, HostPattern, PathPattern, Scheme, Slashes};

use crate::credential::KeyRule;
use crate::limits::Limits;
use crate::rate::RouteLimits;
use crate::route::pattern::{Pattern, PatternError};
use crate::target::Target;
use stockade_tls::{Acme, ClientRule};
use stockade_trace::Tracing;

/// What answers which requests, and how.
#[derive(Clone)]
pub struct Route {
    /// For metrics and logs: a name that was configured, never one that a client chose.
    pub label: Arc<str>,
    /// The requests it answers; the most specific pattern of all routes wins.
    pub patterns: Vec<Pattern>,
    /// What becomes of `%2F` and `%5C` in a path.
    pub encoded_slashes: EncodedSlashes,
    /// Which clients may come in, by their certificate. Others get 403. The handshake's own policy is the
    /// listener's.
    pub client: ClientRule,
    /// Which clients may come in, by their API key or another credential; `None`: all that [`Route::client`] lets in. Others get 401 or 403.
    pub api_key: Option<Arc<KeyRule>>,
    /// What clients may use over time; `None`: as much as the gateway's own limits allow. Others get 429.
    pub limits: Option<Arc<RouteLimits>>,
    /// How long the target may take to answer with a head; `None` is the gateway's limit.
    pub timeout: Option<Duration>,
    /// Size of a request's body in bytes, where that is less than the gateway's limit.
    pub max_body: Option<u64>,
    /// Whether the target takes WebSockets. Elsewhere a request for one is an ordinary request.
    pub websocket: bool,
    /// What answers.
    pub target: Arc<dyn Target>,
}

impl Route {
    /// A route with the strictest rules for paths, open to all clients.
    pub fn new(label: &str, patterns: Vec<Pattern>, target: Arc<dyn Target>) -> Self {
        Self {
            label: label.into(),
            patterns,
            encoded_slashes: EncodedSlashes::default(),
            client: ClientRule::default(),
            api_key: None,
            limits: None,
            timeout: None,
            max_body: None,
            websocket: true,
            target,
        }
    }

    /// The bytes that a request's body may have: what both the route and the gateway allow.
    pub(crate) fn body_limit(&self, limits: &Limits) -> u64 {
        let limit = self.max_body.unwrap_or(limits.max_body);
        limit.min(limits.max_body)
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route")
            .field("label", &self.label)
            .field("patterns", &self.patterns)
            .finish_non_exhaustive()
    }
}

/// What holds for all routes.
#[derive(Debug, Clone, Default)]
pub struct TableOptions {
    /// Peers whose `x-forwarded-for`, `x-forwarded-proto`, `x-request-id` and PROXY headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// What becomes of empty path segments.
    pub slashes: Slashes,
    /// Where a plain request is sent (308) whose URL only a route for `https` matches: to this port.
    /// `None` answers 404.
    pub https_redirect: Option<u16>,
    /// Fields of requests that are in their access records.
    pub logged_headers: Vec<HeaderName>,
    /// Answers requests below `/.well-known/acme-challenge/` before all routes (RFC 8555, section 8.3).
    pub acme: Option<Arc<Acme>>,
    /// Traces requests.
    pub tracing: Option<TraceRule>,
}

/// How requests are traced.
#[derive(Debug, Clone)]
pub struct TraceRule {
    /// Begins their traces.
    pub tracing: Tracing,
    /// Whose traces are continued.
    pub parents: TraceParents,
}

/// Peers whose `traceparent` is continued. A trace of another peer is left out, and a new one begins: the sender that begins
/// a trace decides whether it is recorded, and so what it costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceParents {
    /// Parents in requests of [`TableOptions::trusted_proxies`].
    Trusted,
    /// All.
    Everyone,
    /// None.
    Nobody,
}

/// All routes. Built once, then only read.
#[derive(Default)]
pub struct RouteTable {
    pub(crate) options: TableOptions,
    hosts: HashMap<Box<str>, HostRoutes>,
    below: HashMap<Box<str>, HostRoutes>,
    any: HostRoutes,
    routes: usize,
    /// The limits of each route that has some, by its label.
    limits: Vec<(Arc<str>, Arc<RouteLimits>)>,
}

/// The routes of one host.
#[derive(Default)]
struct HostRoutes {
    exact: HashMap<Box<str>, Vec<RouteEntry>>,
    under: HashMap<Box<str>, Vec<RouteEntry>>,
    /// Slashes in the longest key of `under`: nothing deeper is looked up.
    deepest: usize,
}

struct RouteEntry {
    scheme: Option<Scheme>,
    port: Option<u16>,
    route: Arc<Route>,
}

/// Why a table could not be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// Two routes have the same pattern.
    #[error("{pattern} is in the routes {first:?} and {second:?}; give it to one of them")]
    Twice {
        /// The pattern.
        pattern: String,
        /// The first route's label.
        first: String,
        /// The second route's label.
        second: String,
    },
    /// A pattern that can match nothing.
    #[error("route {label:?}: {source}")]
    Pattern {
        /// The route's label.
        label: String,
        /// What is wrong.
        source: PatternError,
    },
}

/// What a request asks for, in the form in which it is compared.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) scheme: Scheme,
    /// Lower case, no final dot.
    pub(crate) host: &'a str,
    pub(crate) port: u16,
    /// Normalised.
    pub(crate) path: &'a str,
}

impl RouteTable {
    /// Builds the table.
    ///
    /// # Errors
    ///
    /// [`TableError`] if two routes have the same pattern, or one can match nothing.
    pub fn new(routes: Vec<Route>, options: TableOptions) -> Result<Self, TableError> {
        let mut table = Self {
            options,
            hosts: HashMap::new(),
            below: HashMap::new(),
            any: HostRoutes::default(),
            routes: routes.len(),
            limits: Vec::new(),
        };
        for route in routes {
            let route = Arc::new(route);
            if let Some(limits) = &route.limits {
                let label = Arc::clone(&route.label);
                table.limits.push((label, Arc::clone(limits)));
            }
            for pattern in &route.patterns {
                pattern.check().map_err(|source| TableError::Pattern {
                    label: route.label.to_string(),
                    source,
                })?;
                table.add(&route, pattern)?;
            }
        }
        Ok(table)
    }

    /// How many routes it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.routes
    }

    /// Whether it has no route.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.routes == 0
    }

    pub(crate) fn limits(&self) -> &[(Arc<str>, Arc<RouteLimits>)] {
        &self.limits
    }

    fn add(&mut self, route: &Arc<Route>, pattern: &Pattern) -> Result<(), TableError> {
        let paths = match &pattern.host {
            HostPattern::Exact(host) => self.hosts.entry(host.to_string().into()).or_default(),
            HostPattern::Below(host) => self.below.entry(host.as_str().into()).or_default(),
            HostPattern::Any => &mut self.any,
        };
        let entries = match &pattern.path {
            PathPattern::Exact(path) => paths.exact.entry(path.as_str().into()).or_default(),
            PathPattern::Under(path) => {
                paths.deepest = paths.deepest.max(path.matches('/').count());
                paths.under.entry(path.as_str().into()).or_default()
            }
        };
        let same =
            |entry: &&RouteEntry| entry.scheme == pattern.scheme && entry.port == pattern.port;
        if let Some(other) = entries.iter().find(same) {
            return Err(TableError::Twice {
                pattern: pattern.to_string(),
                first: other.route.label.to_string(),
                second: route.label.to_string(),
            });
        }
        entries.push(RouteEntry {
            scheme: pattern.scheme,
            port: pattern.port,
            route: Arc::clone(route),
        });
        // What names more of the URL comes first.
        entries.sort_by_key(|entry| (entry.port.is_none(), entry.scheme.is_none()));
        Ok(())
    }

    /// The route whose pattern matches most specifically: by host, then by path, then by port and scheme.
    pub(crate) fn find(&self, wanted: Wanted<'_>) -> Option<&Arc<Route>> {
        if let Some(route) = self
            .hosts
            .get(wanted.host)
            .and_then(|paths| paths.find(wanted))
        {
            return Some(route);
        }
        if !self.below.is_empty() {
            let mut rest = wanted.host;
            while let Some((_, parent)) = rest.split_once('.') {
                if let Some(route) = self.below.get(parent).and_then(|paths| paths.find(wanted)) {
                    return Some(route);
                }
                rest = parent;
            }
        }
        self.any.find(wanted)
    }
}

impl fmt::Debug for RouteTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table")
            .field("routes", &self.routes)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl HostRoutes {
    fn find(&self, wanted: Wanted<'_>) -> Option<&Arc<Route>> {
        let matching =
            |entries: &'_ Vec<RouteEntry>| entries.iter().position(|entry| entry.fits(wanted));
        if let Some(entries) = self.exact.get(wanted.path)
            && let Some(index) = matching(entries)
        {
            return entries.get(index).map(|entry| &entry.route);
        }
        // Keys end before a slash of the path, or are the whole path. None has more slashes than the deepest.
        let beyond = wanted.path.match_indices('/').nth(self.deepest);
        let mut rest = match beyond {
            Some((at, _)) => wanted.path.get(..at),
            None => Some(wanted.path),
        };
        while let Some(key) = rest {
            if let Some(entries) = self.under.get(key)
                && let Some(index) = matching(entries)
            {
                return entries.get(index).map(|entry| &entry.route);
            }
            rest = key.rfind('/').and_then(|at| key.get(..at));
        }
        None
    }
}

impl RouteEntry {
    fn fits(&self, wanted: Wanted<'_>) -> bool {
        self.scheme.is_none_or(|scheme| scheme == wanted.scheme)
            && self.port.is_none_or(|port| port == wanted.port)
    }
}
