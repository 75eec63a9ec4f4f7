//! What happens at the gateway.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use stockade_gateway::{
    AccessRecord, ConnectionEvent, GatewayStats, Observer, Outcome, Refusal, SocketRecord,
};

use super::{Logs, shown, shown_query};
use crate::metrics::{Count, Reading, SiteMetrics};

/// Hears what happens at the gateway.
pub(crate) struct GatewayObserver {
    logs: Arc<Logs>,
    figures: Arc<GatewayFigures>,
}

/// Figures of the gateway. Routes have the names of sites.
pub(crate) struct GatewayFigures {
    sites: ArcSwap<HashMap<Arc<str>, Arc<SiteMetrics>>>,
    refusals: Box<[Count]>,
    opened: Count,
    handshakes: Count,
    unrouted: Count,
    sockets: Count,
    socket_messages: [Count; 2],
}

impl GatewayFigures {
    pub(crate) fn new() -> Self {
        Self {
            sites: ArcSwap::default(),
            refusals: Refusal::ALL.iter().map(|_| Count::default()).collect(),
            opened: Count::default(),
            handshakes: Count::default(),
            unrouted: Count::default(),
            sockets: Count::default(),
            socket_messages: Default::default(),
        }
    }

    /// Requests of these sites are counted from now on.
    pub(crate) fn set_sites(&self, sites: impl IntoIterator<Item = Arc<SiteMetrics>>) {
        let named = sites.into_iter().map(|site| (Arc::clone(&site.name), site));
        self.sites.store(Arc::new(named.collect()));
    }

    /// All figures; those of the moment are the gateway's own.
    pub(crate) fn readings(&self, now: GatewayStats) -> Vec<Reading> {
        let one = |name, help, counter, value: f64| Reading {
            name,
            help,
            counter,
            values: vec![(Vec::new(), value)],
        };
        let refusals = Refusal::ALL.iter().zip(&self.refusals);
        let [messages_in, messages_out] = &self.socket_messages;
        vec![
            Reading {
                name: "stockade_gateway_refused",
                help: "Connections and requests that the gateway refused",
                counter: true,
                values: refusals
                    .map(|(refusal, count)| {
                        let labels = vec![("reason", refusal.name().to_owned())];
                        (labels, count.value() as f64)
                    })
                    .collect(),
            },
            Reading {
                name: "stockade_websocket_messages",
                help: "Messages of WebSockets that are closed",
                counter: true,
                values: vec![
                    (
                        vec![("direction", "in".to_owned())],
                        messages_in.value() as f64,
                    ),
                    (
                        vec![("direction", "out".to_owned())],
                        messages_out.value() as f64,
                    ),
                ],
            },
            one(
                "stockade_connections_opened",
                "Connections accepted",
                true,
                self.opened.value() as f64,
            ),
            one(
                "stockade_tls_handshakes",
                "TLS handshakes done",
                true,
                self.handshakes.value() as f64,
            ),
            one(
                "stockade_requests_unrouted",
                "Requests answered by the gateway itself, for no route was found",
                true,
                self.unrouted.value() as f64,
            ),
            one(
                "stockade_websockets_closed",
                "WebSockets that were open once",
                true,
                self.sockets.value() as f64,
            ),
            one(
                "stockade_connections_open",
                "Connections that are open",
                false,
                now.connections as f64,
            ),
            one(
                "stockade_gateway_requests_open",
                "Requests without a complete response",
                false,
                now.requests as f64,
            ),
            one(
                "stockade_gateway_websockets_open",
                "WebSockets of clients that are open",
                false,
                now.sockets as f64,
            ),
        ]
    }
}

impl GatewayObserver {
    pub(crate) fn new(logs: Arc<Logs>, figures: Arc<GatewayFigures>) -> Self {
        Self { logs, figures }
    }

    fn count(&self, record: &AccessRecord) {
        let sites = self.figures.sites.load();
        let site = record.route.as_ref().and_then(|route| sites.get(route));
        match site {
            Some(site) => {
                site.answered(&record.method, record.status, record.duration);
                site.received.add(record.bytes_in);
                site.sent.add(record.bytes_out);
            }
            None => self.figures.unrouted.add(1),
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
        let mut line = log.line("info", "request");
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

    fn refused(&self, refusal: Refusal, peer: Option<IpAddr>) {
        let at = Refusal::ALL.iter().position(|known| *known == refusal);
        if let Some(count) = at.and_then(|at| self.figures.refusals.get(at)) {
            count.add(1);
        }
        let _ = peer;
        tracing::debug!(reason = refusal.name(), "the gateway refused a client");
    }

    fn connection(&self, _listener: &str, event: ConnectionEvent) {
        match event {
            ConnectionEvent::Opened => self.figures.opened.add(1),
            ConnectionEvent::Secured { .. } => self.figures.handshakes.add(1),
            ConnectionEvent::Closed { .. } => {}
        }
    }

    fn socket(&self, record: &SocketRecord) {
        self.figures.sockets.add(1);
        let [messages_in, messages_out] = &self.figures.socket_messages;
        messages_in.add(record.messages_in);
        messages_out.add(record.messages_out);
        let policy = self.logs.policy.load();
        let Some(access) = &policy.access else {
            return;
        };
        let mut line = self.logs.log.line("info", "websocket");
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
