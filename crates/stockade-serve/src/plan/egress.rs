//! From the configuration of a data guard to the broker's policy.

use std::num::NonZeroU32;
use std::path::PathBuf;

use stockade_broker::{
    Budget, ClientCertificate, EgressLimits, EgressPolicy, Proxy, ProxyCredentials, ProxyProtocol,
    Rule, Ways,
};
use stockade_config::{DataGuard, GuardRule, ProxyScheme, ProxyUrl, SecretRef};

fn rule(rule: &GuardRule) -> Rule {
    Rule {
        name: rule.name.as_str().into(),
        hosts: rule.hosts.clone(),
        addresses: rule.addresses.clone(),
        ports: rule
            .ports
            .iter()
            .map(|range| range.first..=range.last)
            .collect(),
        methods: rule.methods.clone(),
        schemes: rule.schemes.clone(),
        via: rule.via.clone(),
        ca: rule.ca.clone(),
        client: client(rule.client_certificate.as_ref(), rule.client_key.as_ref()),
        proxy: proxy(
            rule.proxy.as_ref(),
            rule.proxy_credentials.as_ref(),
            rule.proxy_resolves,
        ),
    }
}

/// The client certificate of a rule.
pub(super) fn client(
    certificate: Option<&PathBuf>,
    key: Option<&PathBuf>,
) -> Option<ClientCertificate> {
    Some(ClientCertificate {
        certificate: certificate?.clone(),
        key: key?.clone(),
    })
}

/// The proxy of a rule.
pub(super) fn proxy(
    url: Option<&ProxyUrl>,
    credentials: Option<&SecretRef>,
    resolves: bool,
) -> Option<Proxy> {
    let url = url?;
    Some(Proxy {
        protocol: match url.scheme {
            ProxyScheme::Http => ProxyProtocol::Http,
            ProxyScheme::Https => ProxyProtocol::Https,
            ProxyScheme::Socks5 => ProxyProtocol::Socks5,
        },
        host: url.host.clone(),
        port: url.port,
        credentials: credentials.map(|secret| ProxyCredentials::new(secret.reveal())),
        resolves,
    })
}

/// What the broker is to allow. The tunnels that rules name are for the caller to add.
#[must_use]
pub fn policy(guard: &DataGuard, message_bytes: usize) -> EgressPolicy {
    let defaults = EgressLimits::default();
    // More than 4 GiB a second is no limit.
    let narrow = |bytes: u64| NonZeroU32::new(u32::try_from(bytes).unwrap_or(u32::MAX));
    EgressPolicy {
        rules: guard.rules.iter().map(rule).collect(),
        allow_private: guard.allow_private.clone(),
        refuse_addresses: guard.refuse.clone(),
        limits: EgressLimits {
            connect_timeout: guard.connect_timeout,
            head_timeout: guard.response_timeout,
            idle_timeout: guard.idle_timeout,
            request_timeout: guard.timeout,
            max_request_bytes: guard.max_request,
            max_response_bytes: guard.max_response,
            max_decoded_bytes: guard.max_decompressed,
            concurrent: guard.concurrent,
            queued: guard.queue,
            websockets: guard.websockets,
            max_message_bytes: message_bytes,
            requests_per_second: guard.rate.and_then(NonZeroU32::new),
            bytes_per_second: guard.bandwidth.and_then(narrow),
            budget: Budget {
                requests: guard.total_requests,
                bytes: guard.total_bytes,
                per: guard.total_period,
            },
            ..defaults
        },
        ways: Ways::default(),
    }
}
