//! What happens, as lines of the log and as metrics.

mod auditor;
mod egress;
mod gateway;
mod grants;
mod guest;
mod refused;
mod usage;

use std::net::{IpAddr, SocketAddr};

pub(crate) use auditor::{Auditor, OpenAudit};
pub(crate) use egress::EgressMetrics;
pub(crate) use gateway::{GatewayMetrics, GatewayObserver};
pub(crate) use grants::{GrantMetrics, HandleGauges};
pub(crate) use guest::SiteObserver;
pub(crate) use refused::RefusedLately;
use stockade_config::{ClientAddress, ConsoleLog, Query};
pub(crate) use usage::{UsageCollector, UsageRecorder, of_state};

use crate::log::{Log, Redaction};

/// What is logged of requests and guests. Replaced as a whole when the configuration changes.
pub(crate) struct LogPolicy {
    pub(crate) access: Option<AccessPolicy>,
    pub(crate) console: ConsoleLog,
    pub(crate) redaction: Redaction,
}

/// What is logged of a request.
pub(crate) struct AccessPolicy {
    pub(crate) query: Query,
    pub(crate) client_address: ClientAddress,
}

/// The log, a policy that can be replaced, the audit log, what is counted for instances and keys, and what was refused
/// lately.
pub(crate) struct Logs {
    pub(crate) log: Log,
    pub(crate) audit: Auditor,
    pub(crate) usage: UsageRecorder,
    pub(crate) refused: RefusedLately,
    pub(crate) policy: arc_swap::ArcSwap<LogPolicy>,
}

/// An address as far as it may be logged.
fn shown(address: SocketAddr, policy: ClientAddress) -> Option<String> {
    match policy {
        ClientAddress::Full => Some(address.ip().to_canonical().to_string()),
        ClientAddress::Network => Some(match address.ip().to_canonical() {
            IpAddr::V4(address) => {
                let [a, b, c, _] = address.octets();
                format!("{a}.{b}.{c}.0/24")
            }
            IpAddr::V6(address) => {
                let [a, b, c, ..] = address.segments();
                format!("{}/48", std::net::Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0))
            }
        }),
        ClientAddress::None => None,
    }
}

/// A query as far as it may be logged, with its question mark.
fn shown_query(query: &str, policy: Query, redaction: &Redaction) -> String {
    match policy {
        Query::Full => redaction.target(&format!("?{query}")).into_owned(),
        Query::Names => {
            let names: Vec<&str> = query
                .split('&')
                .map(|pair| pair.split_once('=').map_or(pair, |(name, _)| name))
                .collect();
            format!("?{}", names.join("&"))
        }
        Query::None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_shown_is_cut_to_its_network() {
        let of = |text: &str, policy| shown(text.parse().unwrap(), policy);
        assert_eq!(
            of("203.0.113.7:9", ClientAddress::Network).as_deref(),
            Some("203.0.113.0/24")
        );
        assert_eq!(
            of("[2001:db8:1:2::7]:9", ClientAddress::Network).as_deref(),
            Some("2001:db8:1::/48")
        );
        assert_eq!(
            of("[::ffff:203.0.113.7]:9", ClientAddress::Full).as_deref(),
            Some("203.0.113.7")
        );
        assert_eq!(of("203.0.113.7:9", ClientAddress::None), None);
    }

    #[test]
    fn query_shown_is_redacted_or_cut() {
        let redaction = Redaction::new([], ["token"]);
        let of = |policy| shown_query("a=1&token=x&b", policy, &redaction);
        assert_eq!(of(Query::Full), "?a=1&token=[redacted]&b");
        assert_eq!(of(Query::Names), "?a&token&b");
        assert_eq!(of(Query::None), "");
    }
}
