//! From the configuration of a data guard to the broker's policy.

use std::num::NonZeroU32;

use stockade_broker::{
    Budget, EgressLimits, EgressPolicy, HostPattern, PatternError, Rule, Scheme,
};
use stockade_config::{DataGuard, GuardHost, GuardRule};

/// The host's pattern in the broker's words.
pub(crate) fn host(host: &GuardHost) -> Result<HostPattern, PatternError> {
    HostPattern::parse(&match host {
        GuardHost::Any => "*".to_owned(),
        GuardHost::Exact(name) => name.clone(),
        GuardHost::Below(name) => format!("*.{name}"),
    })
}

fn rule(rule: &GuardRule) -> Result<Rule, PatternError> {
    let mut schemes = Vec::new();
    for scheme in &rule.schemes {
        schemes.extend(match scheme {
            stockade_config::Scheme::Http => [Scheme::Http, Scheme::Ws],
            stockade_config::Scheme::Https => [Scheme::Https, Scheme::Wss],
        });
    }
    Ok(Rule {
        name: rule.name.as_str().into(),
        hosts: rule.hosts.iter().map(host).collect::<Result<_, _>>()?,
        addresses: rule.addresses.clone(),
        ports: rule
            .ports
            .iter()
            .map(|range| range.first..=range.last)
            .collect(),
        // The configuration has upper case letters only: every such word is a method.
        methods: rule
            .methods
            .iter()
            .filter_map(|method| method.parse().ok())
            .collect(),
        schemes,
    })
}

/// What the broker is to allow.
pub(crate) fn policy(
    guard: &DataGuard,
    message_bytes: usize,
) -> Result<EgressPolicy, PatternError> {
    let defaults = EgressLimits::default();
    // More than 4 GiB a second is no limit.
    let narrow = |bytes: u64| NonZeroU32::new(u32::try_from(bytes).unwrap_or(u32::MAX));
    Ok(EgressPolicy {
        rules: guard.rules.iter().map(rule).collect::<Result<_, _>>()?,
        allow_private: guard.allow_private.clone(),
        refuse_addresses: guard.refuse.clone(),
        limits: EgressLimits {
            connect_timeout: guard.connect_timeout,
            head_timeout: guard.response_timeout,
            idle_timeout: guard.idle_timeout,
            exchange_timeout: guard.timeout,
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
    })
}
