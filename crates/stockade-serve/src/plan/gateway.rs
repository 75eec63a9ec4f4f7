//! From the configuration's network part to the gateway's options.

use std::num::NonZeroU32;
use std::sync::Arc;

use stockade_auth::{JwtAlgorithm, JwtKeys, JwtOptions, JwtVerifier, Keys, Scope, StoreError};
use stockade_config::{
    Config, GatewayLimits, LimitBy, Listener, Protocol, ProxyProtocol, UrlPattern,
};
use stockade_gateway as gateway;
use stockade_gateway::AssetsError;
use stockade_limits::{Counters, Period};
use stockade_tls::ClientRule;

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

/// Which credentials the site accepts. `keys` are there if it accepts API keys, and `fetched` if the keys of its tokens
/// come from an address.
///
/// # Errors
/// When a file of public keys cannot be used, or a scope is none, which the configuration's own check excludes.
pub(crate) fn key_rule(
    site: &str,
    auth: &stockade_config::Auth,
    keys: Option<Keys>,
    fetched: Option<Arc<JwtKeys>>,
) -> Result<gateway::KeyRule, ServeError> {
    let scopes = |names: &[String]| {
        let names = names.iter().map(|name| Scope::parse_required(name));
        names
            .collect::<Result<Vec<_>, _>>()
            .map_err(StoreError::from)
    };
    let failures = keys.as_ref().map(|keys| Arc::clone(keys.failures()));
    let mut rule = gateway::KeyRule {
        failures: failures.unwrap_or_default(),
        keys,
        tokens: match &auth.jwt {
            Some(jwt) => Some(tokens(jwt, fetched)?),
            None => None,
        },
        certificates: auth.client_certificate.as_ref().map(|accepted| ClientRule {
            required: true,
            policy: None,
            subjects: accepted.subjects.clone(),
            names: accepted.san.clone(),
            fingerprints: Vec::new(),
        }),
        instance: site.into(),
        header: None,
        query: None,
        cookie: None,
        scopes: Vec::new(),
        methods: Vec::new(),
        paths: Vec::new(),
        open: auth.open.clone(),
    };
    if let Some(of) = &auth.api_key {
        let methods = of
            .methods
            .iter()
            .map(|(method, names)| Ok((method.clone(), scopes(names)?)));
        let paths = of
            .paths
            .iter()
            .map(|(path, names)| Ok((path.clone(), scopes(names)?)));
        rule.header.clone_from(&of.header);
        rule.query.clone_from(&of.query);
        rule.cookie.clone_from(&of.cookie);
        rule.scopes = scopes(&of.scopes)?;
        rule.methods = methods.collect::<Result<_, ServeError>>()?;
        rule.paths = paths.collect::<Result<_, ServeError>>()?;
    }
    Ok(rule)
}

/// The tokens that the site accepts.
fn tokens(
    jwt: &stockade_config::JwtAuth,
    fetched: Option<Arc<JwtKeys>>,
) -> Result<Arc<JwtVerifier>, ServeError> {
    let algorithms = jwt.algorithms.iter();
    let options = JwtOptions {
        // The words of the configuration are the names of the algorithms.
        algorithms: algorithms
            .filter_map(|algorithm| JwtAlgorithm::parse(algorithm.word()))
            .collect(),
        issuers: jwt.issuer.clone(),
        audiences: jwt.audience.clone(),
        leeway: jwt.leeway,
        claims: jwt.claims.clone(),
    };
    Ok(Arc::new(match &jwt.jwks {
        Some(file) => JwtVerifier::read(file, options)?,
        // Without a key no token is accepted.
        None => JwtVerifier::new(fetched.unwrap_or_default(), options),
    }))
}

/// What a limit of the configuration counts.
fn rate_rule(limit: &stockade_config::RateLimit) -> gateway::RateRule {
    let by = limit.by.iter().map(|by| match by {
        LimitBy::Address => gateway::LimitBy::Address,
        LimitBy::Key => gateway::LimitBy::Key,
        LimitBy::Instance => gateway::LimitBy::Instance,
        LimitBy::Header(name) => gateway::LimitBy::Header(name.clone()),
        LimitBy::Claim(name) => gateway::LimitBy::Claim(name.clone()),
    });
    let allowances = [
        (gateway::Unit::Requests, limit.requests, limit.burst),
        (gateway::Unit::BytesIn, limit.bytes_in, None),
        (gateway::Unit::BytesOut, limit.bytes_out, None),
        (gateway::Unit::Cpu, limit.cpu, None),
    ];
    let allowances = allowances.into_iter();
    gateway::RateRule {
        by: by.collect(),
        methods: limit.methods.clone(),
        paths: limit.paths.clone(),
        allowances: allowances
            .filter_map(|(unit, amount, burst)| Some((unit, amount?.allowance(burst))))
            .collect(),
    }
}

/// The limits of a site: those of all sites together, and its own. None where nothing is limited.
pub(crate) fn rate_limits(
    config: &Config,
    site: &stockade_config::Instance,
    counters: &Arc<Counters>,
) -> Option<gateway::RouteLimits> {
    let of_all = config
        .rate_limits
        .iter()
        .map(|limit| (String::new(), limit));
    let own = site
        .rate_limits
        .iter()
        .map(|limit| (site.name.clone(), limit));
    let rules: Vec<_> = of_all
        .chain(own)
        .map(|(owner, limit)| (owner, rate_rule(limit)))
        .collect();
    // Keys may have limits of their own.
    let needed = !rules.is_empty() || accepts_keys(site);
    let prefix = config.limits.ipv6_prefix;
    needed.then(|| {
        let limits = gateway::RouteLimits::new(Arc::clone(counters), prefix, rules);
        limits.showing(site.rate_limit_headers)
    })
}

/// Whether a site accepts API keys.
pub(crate) fn accepts_keys(site: &stockade_config::Instance) -> bool {
    site.auth
        .as_ref()
        .is_some_and(|auth| auth.api_key.is_some())
}

/// Whether a configuration counts anything, and whether what it counts must outlive the process.
pub(crate) fn counts(config: &Config) -> (bool, bool) {
    let instances = config.instances.values();
    let with_keys = instances.clone().any(accepts_keys);
    let limits: Vec<_> = instances
        .flat_map(|site| &site.rate_limits)
        .chain(&config.rate_limits)
        .collect();
    let is_quota = |limit: &&stockade_config::RateLimit| {
        let amounts = [limit.requests, limit.bytes_in, limit.bytes_out, limit.cpu];
        let mut periods = amounts.iter().flatten().map(|amount| amount.period);
        periods.any(|period| matches!(period, Period::Day | Period::Month))
    };
    // Any key may have a quota.
    let quotas = with_keys || limits.iter().any(is_quota);
    (with_keys || !limits.is_empty(), quotas)
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
