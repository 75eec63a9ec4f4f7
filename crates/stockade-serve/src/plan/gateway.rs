//! From the configuration's network part to the gateway's options.

use std::num::NonZeroU32;
use std::sync::Arc;

use stockade_auth::{Keys, Scope, StoreError};
use stockade_config::{Config, GatewayLimits, Listener, Protocol, ProxyProtocol, UrlPattern};
use stockade_gateway as gateway;
use stockade_gateway::AssetsError;

use crate::error::ServeError;

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
        h2_control_frames: limits.http2_control_frames,
        sockets: gateway::SocketLimits {
            open: limits.websockets,
            message_bytes: limits.websocket_message,
            messages_per_second: limits.websocket_rate,
            ping_interval: limits.websocket_ping,
            pong_timeout: limits.websocket_pong,
        },
        ..defaults
    }
}

pub(crate) fn pattern(url: &UrlPattern) -> gateway::Pattern {
    gateway::Pattern {
        scheme: url.scheme,
        host: url.host.clone(),
        port: url.port,
        path: url.path.clone(),
    }
}

pub(crate) fn proxy_protocol(proxy: ProxyProtocol) -> gateway::ProxyProtocol {
    match proxy {
        ProxyProtocol::Off => gateway::ProxyProtocol::Off,
        ProxyProtocol::Optional => gateway::ProxyProtocol::Optional,
        ProxyProtocol::Required => gateway::ProxyProtocol::Required,
    }
}

fn address(listener: &Listener) -> gateway::Address {
    match listener.protocol {
        Protocol::Tcp => gateway::Address::Tcp(listener.address),
        Protocol::Udp => gateway::Address::Udp(listener.address),
    }
}

pub(crate) fn listeners(config: &Config) -> Vec<gateway::Listener> {
    let listeners = config.listeners.iter();
    listeners
        .map(|listener| gateway::Listener {
            name: address(listener).to_string().into(),
            address: address(listener),
            proxy_protocol: proxy_protocol(listener.proxy_protocol),
            http2: listener.http2,
            tls: None,
            streams: None,
            datagrams: gateway::DatagramLimits {
                flows: listener.connections,
                per_second: NonZeroU32::new(listener.datagrams).unwrap_or(NonZeroU32::MIN),
                amplification: listener.amplification,
            },
        })
        .collect()
}

pub(crate) fn table_options(config: &Config) -> gateway::TableOptions {
    gateway::TableOptions {
        trusted_proxies: config.trusted_proxies.clone(),
        logged_headers: config
            .logging
            .access
            .iter()
            .flat_map(|access| access.headers.iter().cloned())
            .collect(),
        https_redirect: config.https_redirect,
        ..gateway::TableOptions::default()
    }
}

/// What the site says about its routes.
pub(crate) fn route(site: &stockade_config::Instance, route: &mut gateway::Route) {
    route.encoded_slashes = site.encoded_slashes;
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

/// Which API keys the site accepts.
///
/// # Errors
/// When a scope is none, which the configuration's own check excludes.
pub(crate) fn key_rule(
    site: &str,
    auth: &stockade_config::Auth,
    keys: Keys,
) -> Result<gateway::KeyRule, ServeError> {
    let scopes = |names: &[String]| {
        let names = names.iter().map(|name| Scope::parse_required(name));
        names
            .collect::<Result<Vec<_>, _>>()
            .map_err(StoreError::from)
    };
    let of = &auth.api_key;
    let methods = of
        .methods
        .iter()
        .map(|(method, names)| Ok((method.clone(), scopes(names)?)));
    let paths = of
        .paths
        .iter()
        .map(|(path, names)| Ok((path.clone(), scopes(names)?)));
    Ok(gateway::KeyRule {
        keys,
        instance: site.into(),
        header: of.header.clone(),
        query: of.query.clone(),
        cookie: of.cookie.clone(),
        scopes: scopes(&of.scopes)?,
        methods: methods.collect::<Result<_, ServeError>>()?,
        paths: paths.collect::<Result<_, ServeError>>()?,
        open: auth.open.clone(),
    })
}

/// What serves the site's files.
///
/// # Errors
/// When the folder or a page cannot be read.
pub(crate) fn assets(
    assets: &stockade_config::Assets,
    with_code: bool,
) -> Result<Arc<dyn gateway::Target>, AssetsError> {
    let options = assets_options(assets, with_code);
    Ok(Arc::new(gateway::Assets::open(options)?))
}

/// How the site's files are served.
pub(crate) fn assets_options(
    assets: &stockade_config::Assets,
    with_code: bool,
) -> gateway::AssetsOptions {
    let mut options = gateway::AssetsOptions::new(&assets.folder);
    options.index.clone_from(&assets.index);
    options.compress = assets.compress;
    // With code, requests for paths without a file go to the code.
    let page = assets.fallback.as_ref().filter(|_| !with_code);
    options.fallback = page.map(|file| gateway::AssetFallback {
        file: file.clone(),
        status: assets.fallback_status,
    });
    options.cache_control.clone_from(&assets.cache_control);
    options.headers.clone_from(&assets.headers);
    options
}
