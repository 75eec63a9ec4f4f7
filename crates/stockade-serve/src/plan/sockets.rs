//! From the configuration of connections to the broker's policy.

use std::num::NonZeroU32;

use stockade_broker::{Budget, Protocol, SocketLimits, SocketPolicy, SocketRule, TlsUse, Ways};
use stockade_config::{ConnectRule, Sockets};

use super::egress;

fn rule(rule: &ConnectRule) -> SocketRule {
    SocketRule {
        name: rule.name.as_str().into(),
        hosts: rule.hosts.clone(),
        addresses: rule.addresses.clone(),
        ports: (rule.ports.iter())
            .map(|range| range.first..=range.last)
            .collect(),
        protocol: match rule.protocol {
            stockade_config::Protocol::Tcp => Protocol::Tcp,
            stockade_config::Protocol::Udp => Protocol::Udp,
        },
        tls: match rule.tls {
            stockade_config::TlsUse::Required => TlsUse::Required,
            stockade_config::TlsUse::Allowed => TlsUse::Allowed,
            stockade_config::TlsUse::Off => TlsUse::Off,
        },
        ca: rule.ca.clone(),
        via: rule.via.clone(),
        client: egress::client(rule.client_certificate.as_ref(), rule.client_key.as_ref()),
        proxy: egress::proxy(
            rule.proxy.as_ref(),
            rule.proxy_credentials.as_ref(),
            rule.proxy_resolves,
        ),
    }
}

/// What the broker is to allow. The tunnels that rules name are for the caller to add.
pub(crate) fn policy(sockets: &Sockets) -> SocketPolicy {
    // More than 4 GiB a second is no limit.
    let narrow = |bytes: u64| NonZeroU32::new(u32::try_from(bytes).unwrap_or(u32::MAX));
    SocketPolicy {
        rules: sockets.connect.iter().map(rule).collect(),
        allow_private: sockets.allow_private.clone(),
        refuse_addresses: sockets.refuse.clone(),
        limits: SocketLimits {
            concurrent: sockets.concurrent,
            attempts_per_second: sockets.rate.and_then(NonZeroU32::new),
            datagrams_per_second: sockets.datagrams.and_then(NonZeroU32::new),
            connect_timeout: sockets.connect_timeout,
            idle_timeout: sockets.idle_timeout,
            lifetime: sockets.lifetime,
            bytes_per_second: sockets.bandwidth.and_then(narrow),
            budget: Budget {
                requests: sockets.total_connections,
                bytes: sockets.total_bytes,
                per: sockets.total_period,
            },
        },
        ways: Ways::default(),
    }
}
