//! What happens at the gateway.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use stockade_auth::KeyId;
use stockade_config::ClientAddress;
use stockade_gateway::{
    AccessRecord, ConnectionEvent, Observer, Outcome, Refusal, SocketRecord, Transferred,
};
use stockade_trace::{RootSpan, SpanKind, Value};
use stockade_usage::Counts;
use strum::VariantArray as _;

use super::usage::of_request;
use super::{LogPolicy, Logs, shown, shown_query};
use crate::log::{self, milliseconds, target};
use crate::metrics::{Reason, SiteTable, counter};

/// Receives what happens at the gateway.
pub(crate) struct GatewayObserver {
    logs: Arc<Logs>,
    metrics: GatewayMetrics,
    /// Routes have the names of sites.
    sites: Arc<SiteTable>,
}

/// Whose messages are counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Direction {
    direction: &'static str,
}

/// Metrics of the gateway.
pub(crate) struct GatewayMetrics {
    refusals: Family<Reason, Counter>,
    opened: Counter,
    handshakes: Counter,
    unrouted: Counter,
    sockets: Counter,
    messages_in: Counter,
    messages_out: Counter,
}

impl GatewayMetrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let refusals = Family::<Reason, Counter>::default();
        for &refusal in Refusal::VARIANTS {
            drop(refusals.get_or_create(&reason(refusal)));
        }
        registry.register(
            "stockade_gateway_refused",
            "Connections and requests that the gateway refused",
            refusals.clone(),
        );
        let messages = Family::<Direction, Counter>::default();
        let to = |direction| messages.get_or_create_owned(&Direction { direction });
        let (messages_in, messages_out) = (to("in"), to("out"));
        registry.register(
            "stockade_websocket_messages",
            "Messages of WebSockets that are closed",
            messages,
        );
        Self {
            refusals,
            opened: counter(
                registry,
                "stockade_connections_opened",
                "Connections accepted",
            ),
            handshakes: counter(registry, "stockade_tls_handshakes", "TLS handshakes done"),
            unrouted: counter(
                registry,
                "stockade_requests_unrouted",
                "Requests answered by the gateway itself, for no route was found",
            ),
            sockets: counter(
                registry,
                "stockade_websockets_closed",
                "WebSockets that were open once",
            ),
            messages_in,
            messages_out,
        }
    }
}

fn reason(refusal: Refusal) -> Reason {
    Reason {
        reason: refusal.name(),
    }
}

impl GatewayObserver {
    pub(crate) fn new(logs: Arc<Logs>, metrics: GatewayMetrics, sites: Arc<SiteTable>) -> Self {
        Self {
            logs,
            metrics,
            sites,
        }
    }

    /// Counts bytes of a client, and to it.
    fn moved(&self, route: &str, key: Option<KeyId>, (bytes_in, bytes_out): (u64, u64)) {
        if let Some(site) = self.sites.find(route) {
            let counts = Counts {
                bytes_in,
                bytes_out,
                ..Counts::default()
            };
            let key = key.map(KeyId::number);
            self.logs.usage.add(&site.name, key, &counts);
        }
    }

    fn count(&self, record: &AccessRecord) {
        let site = record.route.as_ref();
        match site.and_then(|route| self.sites.find(route)) {
            Some(site) => {
                site.answered(&record.method, record.status, record.duration);
                site.received.inc_by(record.bytes_in);
                site.sent.inc_by(record.bytes_out);
                let key = record.api_key.map(KeyId::number);
                self.logs.usage.add(&site.name, key, &of_request(record));
            }
            None => {
                self.metrics.unrouted.inc();
            }
        }
    }
}

/// Whether a refusal is about who the client is and what it may use.
fn is_audited(refusal: Refusal) -> bool {
    matches!(
        refusal,
        Refusal::ApiKey
            | Refusal::Token
            | Refusal::Scope
            | Refusal::ApiKeyGuesses
            | Refusal::RateLimit
            | Refusal::ClientCertificate
    )
}

impl Observer for GatewayObserver {
    fn request(&self, record: &AccessRecord) {
        self.count(record);
        let policy = self.logs.policy.load();
        if let Some(trace) = record.trace.as_ref().filter(|trace| trace.is_recorded()) {
            trace.end(span(record, &policy));
        }
        if let (Outcome::Refused(refusal), Some(route)) = (record.outcome, &record.refused_by)
            && is_audited(refusal)
        {
            let address = policy
                .access
                .as_ref()
                .map_or(ClientAddress::Full, |access| access.client_address);
            self.logs
                .audit
                .of_client(route, refusal.name(), |mut audited| {
                    if let Some(client) = shown(record.client, address) {
                        audited = audited.text("client", &client);
                    }
                    match record.api_key {
                        Some(key) => audited.text("key", &key.to_string()),
                        None => audited,
                    }
                });
        }
        let Some(access) = &policy.access else {
            return;
        };
        let client = shown(record.client, access.client_address);
        let path = match &record.query {
            Some(query) => {
                let query = shown_query(query, access.query, &policy.redaction);
                Cow::Owned(format!("{}{query}", record.path))
            }
            None => Cow::Borrowed(&*record.path),
        };
        let headers = record.headers.iter();
        let headers = log::entries(headers.map(|(name, value)| {
            let name = name.as_str();
            (name, policy.redaction.header(name, value))
        }));
        let served = record.served_by.as_ref();
        let tls = record.tls.as_deref();
        let certificate = tls.and_then(|tls| tls.certificate.as_ref());
        let trace = record.trace.as_ref();
        let trace = trace.filter(|trace| trace.is_recorded());
        let refused = match record.outcome {
            Outcome::Refused(refusal) => Some(refusal.name()),
            _ => None,
        };
        tracing::info!(
            name: "request",
            target: target::ACCESS,
            request_id = &*record.request_id,
            client = client.as_deref(),
            method = record.method.as_str(),
            scheme = record.scheme,
            host = record.host.as_deref(),
            path = &*path,
            protocol = protocol(record.version),
            status = record.status.as_u16(),
            bytes_in = record.bytes_in,
            bytes_out = record.bytes_out,
            first_byte_ms = milliseconds(record.first_byte),
            duration_ms = milliseconds(record.duration),
            listener = &*record.listener,
            instance = record.route.as_deref(),
            api_key = record.api_key.map(tracing::field::display),
            mirror = served.map(|served| served.mirror),
            cold = served.filter(|served| served.cold).map(|_| true),
            retried = served.filter(|served| served.retried).map(|_| true),
            tls = tls.map(|tls| &*tls.version),
            certificate = certificate.map(|certificate| &*certificate.fingerprint_sha256),
            outcome = (record.outcome != Outcome::Complete).then(|| record.outcome.name()),
            refused,
            trace_id = trace.map(|trace| tracing::field::display(trace.trace_id())),
            "header.*" = headers.as_deref(),
        );
    }

    fn transferred(&self, transferred: &Transferred) {
        self.moved(
            &transferred.route,
            transferred.api_key,
            (transferred.bytes_in, transferred.bytes_out),
        );
    }

    fn refused(&self, refusal: Refusal, peer: Option<IpAddr>) {
        self.metrics.refusals.get_or_create(&reason(refusal)).inc();
        let _ = peer;
        tracing::debug!(reason = refusal.name(), "the gateway refused a client");
    }

    fn connection(&self, _listener: &str, event: ConnectionEvent) {
        let counter = match event {
            ConnectionEvent::Opened => &self.metrics.opened,
            ConnectionEvent::Secured { .. } => &self.metrics.handshakes,
            ConnectionEvent::Closed { .. } => return,
        };
        counter.inc();
    }

    fn socket(&self, record: &SocketRecord) {
        self.metrics.sockets.inc();
        self.metrics.messages_in.inc_by(record.messages_in);
        self.metrics.messages_out.inc_by(record.messages_out);
        self.moved(&record.route, record.api_key, record.unreported);
        let policy = self.logs.policy.load();
        let Some(access) = &policy.access else {
            return;
        };
        let client = shown(record.client, access.client_address);
        tracing::info!(
            name: "websocket",
            target: target::ACCESS,
            request_id = &*record.request_id,
            instance = &*record.route,
            client = client.as_deref(),
            duration_ms = milliseconds(record.lasted),
            messages_in = record.messages_in,
            messages_out = record.messages_out,
            bytes_in = record.bytes_in,
            bytes_out = record.bytes_out,
            code = record.code,
            by_client = record.by_client,
        );
    }
}

/// The span of a request, by the semantic conventions for HTTP servers. It has as much of the client's address as access
/// lines have, and no query.
fn span(record: &AccessRecord, policy: &LogPolicy) -> RootSpan {
    let method = match record.method.as_str() {
        known @ ("GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "OPTIONS" | "PATCH") => known,
        _ => "HTTP",
    };
    let mut attributes: Vec<(&'static str, Value)> = vec![
        ("http.request.method", record.method.to_string().into()),
        ("url.scheme", record.scheme.into()),
        ("url.path", record.path.clone().into()),
        (
            "http.response.status_code",
            i64::from(record.status.as_u16()).into(),
        ),
        (
            "network.protocol.version",
            protocol(record.version).trim_start_matches("HTTP/").into(),
        ),
        ("stockade.request_id", Arc::clone(&record.request_id).into()),
    ];
    let access = policy.access.as_ref();
    let addresses = access.map_or(ClientAddress::None, |access| access.client_address);
    if let Some(client) = shown(record.client, addresses) {
        attributes.push(("client.address", client.into()));
    }
    if let Some(host) = &record.host {
        attributes.push(("server.address", host.clone().into()));
    }
    if let Some(route) = &record.route {
        attributes.push(("stockade.instance", Arc::clone(route).into()));
    }
    if let Some(served) = &record.served_by {
        attributes.push(("stockade.mirror", i64::from(served.mirror).into()));
    }
    if record.outcome != Outcome::Complete {
        attributes.push(("stockade.outcome", record.outcome.name().into()));
    }
    RootSpan {
        name: match &record.route {
            Some(route) => format!("{method} {route}"),
            None => method.to_owned(),
        },
        kind: SpanKind::Server,
        start: record.started,
        duration: record.duration,
        failed: record.status.is_server_error(),
        attributes,
    }
}

fn protocol(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_10 => "HTTP/1.0",
        http::Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}
