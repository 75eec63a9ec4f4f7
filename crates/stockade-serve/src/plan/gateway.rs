//! From the configuration's network part to the gateway's options.

use stockade_config::{
    Config, EncodedSlashes, GatewayLimits, HostPattern, PathPattern, ProxyProtocol, Scheme,
    UrlPattern,
};
use stockade_gateway as gateway;

pub(crate) fn limits(limits: &GatewayLimits) -> gateway::Limits {
    let defaults = gateway::Limits::default();
    gateway::Limits {
        connections: limits.connections,
        connections_per_address: limits.connections_per_address,
        handshake_timeout: limits.handshake_timeout,
        header_timeout: limits.header_timeout,
        idle_timeout: limits.idle_timeout,
        header_bytes: limits.header_bytes,
        headers: limits.headers,
        uri_bytes: limits.uri_bytes,
        max_body: limits.max_body,
        body_timeout: limits.body_timeout,
        body_rate: limits.body_rate,
        stall_timeout: limits.write_timeout,
        requests_per_connection: limits.requests_per_connection,
        h2_streams: limits.http2_streams,
        h2_pending_resets: limits.http2_resets,
        sockets: gateway::SocketLimits {
            open: limits.websockets,
            message_bytes: limits.websocket_message,
            ping_interval: limits.websocket_ping,
            ..defaults.sockets.clone()
        },
        ..defaults
    }
}

pub(crate) fn pattern(url: &UrlPattern) -> gateway::Pattern {
    gateway::Pattern {
        scheme: url.scheme.map(|scheme| match scheme {
            Scheme::Http => gateway::Scheme::Http,
            Scheme::Https => gateway::Scheme::Https,
        }),
        host: match &url.host {
            HostPattern::Exact(host) => gateway::HostPattern::Exact(host.clone()),
            HostPattern::Below(host) => gateway::HostPattern::Below(host.clone()),
            HostPattern::Any => gateway::HostPattern::Any,
        },
        port: url.port,
        path: match &url.path {
            PathPattern::Exact(path) => gateway::PathPattern::Exact(path.clone()),
            PathPattern::Under(path) => gateway::PathPattern::Under(path.clone()),
        },
    }
}

pub(crate) fn encoded_slashes(rule: EncodedSlashes) -> gateway::EncodedSlashes {
    match rule {
        EncodedSlashes::Reject => gateway::EncodedSlashes::Reject,
        EncodedSlashes::Keep => gateway::EncodedSlashes::Keep,
        EncodedSlashes::Decode => gateway::EncodedSlashes::Decode,
    }
}

pub(crate) fn proxy_protocol(proxy: ProxyProtocol) -> gateway::ProxyProtocol {
    match proxy {
        ProxyProtocol::Off => gateway::ProxyProtocol::Off,
        ProxyProtocol::Optional => gateway::ProxyProtocol::Optional,
        ProxyProtocol::Required => gateway::ProxyProtocol::Required,
    }
}

pub(crate) fn listeners(config: &Config) -> Vec<gateway::Listener> {
    let listeners = config.listeners.iter();
    listeners
        .map(|listener| gateway::Listener {
            name: listener.address.to_string().into(),
            address: gateway::Address::Tcp(listener.address),
            proxy_protocol: proxy_protocol(listener.proxy_protocol),
            http2: listener.http2,
            tls: None,
        })
        .collect()
}

pub(crate) fn table_options(config: &Config) -> gateway::TableOptions {
    gateway::TableOptions {
        trusted_proxies: config.trusted_proxies.clone(),
        ..gateway::TableOptions::default()
    }
}

/// What the site says about its routes.
pub(crate) fn route(site: &stockade_config::Instance, route: &mut gateway::Route) {
    route.encoded_slashes = encoded_slashes(site.encoded_slashes);
    route.max_body = Some(site.limits.max_body);
    route.websocket = site.code.is_some();
    // The instance's own timeout, and what may pass before it begins to count.
    route.timeout = Some(
        site.limits
            .timeout
            .saturating_add(site.limits.queue_timeout)
            .saturating_add(site.limits.start_timeout),
    );
}

/// What serves the site's files.
pub(crate) fn assets(
    assets: &stockade_config::Assets,
    beside_code: bool,
) -> Result<std::sync::Arc<dyn gateway::Target>, String> {
    let _ = (assets, beside_code);
    Err("assets are not built yet".to_owned())
}
