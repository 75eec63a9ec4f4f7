//! What happens at the gateway.

use std::net::IpAddr;
use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use stockade_auth::KeyId;
use stockade_gateway::{
    AccessRecord, ConnectionEvent, Observer, Outcome, Refusal, SocketRecord, Transferred,
};
use stockade_usage::Counts;
use strum::VariantArray as _;
use tracing::Level;

use super::usage::of_request;
use super::{Logs, shown, shown_query};
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

impl Observer for GatewayObserver {
    fn request(&self, record: &AccessRecord) {
        self.count(record);
        let policy = self.logs.policy.load();
        let Some(access) = &policy.access else {
            return;
        };
        let log = &self.logs.log;
        let mut line = log.line(Level::INFO, "request");
        line.text("request_id", &record.request_id);
        if let Some(client) = shown(record.client, access.client_address) {
            line.text("client", &client);
        }
        line.text("method", record.method.as_str())
            .text("scheme", record.scheme)
            .maybe("host", record.host.as_deref());
        match &record.query {
            Some(query) => {
                let query = shown_query(query, access.query, &policy.redaction);
                line.text("path", &format!("{}{query}", record.path));
            }
            None => {
                line.text("path", &record.path);
            }
        }
        line.text("protocol", protocol(record.version))
            .number("status", record.status.as_u16())
            .number("bytes_in", record.bytes_in)
            .number("bytes_out", record.bytes_out)
            .milliseconds("first_byte_ms", record.first_byte)
            .milliseconds("duration_ms", record.duration)
            .text("listener", &record.listener)
            .maybe("instance", record.route.as_deref());
        if let Some(key) = record.api_key {
            line.text("api_key", &key.to_string());
        }
        if let Some(served) = &record.served_by {
            line.number("mirror", served.mirror);
            if served.cold {
                line.flag("cold", true);
            }
            if served.retried {
                line.flag("retried", true);
            }
        }
        if let Some(tls) = &record.tls {
            line.text("tls", &tls.version);
            if let Some(certificate) = &tls.certificate {
                line.text("certificate", &certificate.fingerprint_sha256);
            }
        }
        if record.outcome != Outcome::Complete {
            line.text("outcome", record.outcome.name());
        }
        if let Outcome::Refused(refusal) = record.outcome {
            line.text("refused", refusal.name());
        }
        for (name, value) in &record.headers {
            // Names are those of the configuration.
            let key = format!("header.{name}");
            line.text(&key, policy.redaction.header(name.as_str(), value));
        }
        match &access.sink {
            Some(sink) => sink.add(&line.finish()),
            None => log.write_always(line),
        }
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
        let mut line = self.logs.log.line(Level::INFO, "websocket");
        line.text("request_id", &record.request_id)
            .text("instance", &record.route);
        if let Some(client) = shown(record.client, access.client_address) {
            line.text("client", &client);
        }
        line.milliseconds("duration_ms", record.lasted)
            .number("messages_in", record.messages_in)
            .number("messages_out", record.messages_out)
            .number("bytes_in", record.bytes_in)
            .number("bytes_out", record.bytes_out)
            .number("code", record.code)
            .flag("by_client", record.by_client);
        match &access.sink {
            Some(sink) => sink.add(&line.finish()),
            None => self.logs.log.write_always(line),
        }
    }
}

fn protocol(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_10 => "HTTP/1.0",
        http::Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}
