//! What carries a guest's connections: the system's network, a tunnel or a proxy, as their rule says.
//!
//! Invariant: a rule has one of them. A connection never falls back to another one.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::connect::{BrokerError, ConnectFailure, Destination, Wire};
use crate::policy::Scope;
use crate::proxy::ProxyClient;
use crate::race::race;
use crate::resolve::Resolver;
use crate::rule_tls::RuleTls;
use crate::via::{Via, Ways};

/// What carries the connections of a rule.
pub(crate) enum Carrier {
    /// The system's network.
    System,
    /// A tunnel.
    Tunnel(Arc<Via>),
    /// A proxy.
    Proxy(ProxyClient),
    /// Nothing: the rule's tunnel is not there. Such a rule allows nothing either.
    Nothing,
}

impl Carrier {
    /// What carries the connections of a rule. `tls` proves a proxy to the broker, where it speaks TLS.
    ///
    /// # Errors
    /// The rule has a tunnel and a proxy, or the proxy cannot be used.
    pub(crate) fn of(
        rule: &impl Scope,
        ways: &Ways,
        resolver: &Arc<Resolver>,
        tls: impl FnOnce() -> Result<RuleTls, BrokerError>,
    ) -> Result<Self, BrokerError> {
        match (rule.via(), rule.proxy()) {
            (None, None) => Ok(Self::System),
            (Some(name), None) => {
                let via = ways.get(name).cloned();
                Ok(via.map_or(Self::Nothing, Self::Tunnel))
            }
            (None, Some(proxy)) => {
                let client = ProxyClient::new(proxy.clone(), tls()?, Arc::clone(resolver))?;
                Ok(Self::Proxy(client))
            }
            (Some(_), Some(_)) => Err(BrokerError::TunnelAndProxy),
        }
    }

    /// Opens a connection over TCP. Says to which address; to none where a proxy resolves the name.
    pub(crate) async fn open(
        &self,
        destination: Destination<'_>,
    ) -> Result<(Wire, Option<IpAddr>), ConnectFailure> {
        let opened = match (self, destination) {
            (Self::Proxy(proxy), destination) => return proxy.open(destination).await,
            (Self::System, Destination::Addresses(addresses, port)) => {
                system(addresses, port).await
            }
            (Self::Tunnel(via), Destination::Addresses(addresses, port)) => {
                let opened = via.connect(addresses, port).await;
                opened.map(|(stream, address)| (Wire::Right(Box::new(stream)), address))
            }
            // Only a rule with a proxy leaves a name unresolved.
            (Self::Nothing, _) | (_, Destination::Host(..)) => {
                Err(io::ErrorKind::AddrNotAvailable.into())
            }
        };
        let (wire, address) = opened.map_err(|error| ConnectFailure::Tcp(error.kind()))?;
        Ok((wire, Some(address.ip())))
    }
}

async fn system(addresses: &[IpAddr], port: u16) -> io::Result<(Wire, SocketAddr)> {
    let tcp = race(addresses, port).await?;
    let address = tcp.peer_addr()?;
    // A small request must not wait for the answer to the one before.
    let _ = tcp.set_nodelay(true);
    Ok((Wire::Left(tcp), address))
}

#[cfg(test)]
mod tests {
    use stockade_http::Host;

    use super::*;
    use crate::policy::Rule;
    use crate::proxy::{Proxy, ProxyProtocol};
    use crate::resolve::ResolverSource;

    fn carrier(via: Option<&str>, proxy: Option<Proxy>) -> Result<Carrier, BrokerError> {
        let rule = Rule {
            via: via.map(str::to_owned),
            proxy,
            ..Rule::default()
        };
        let resolver = Arc::new(Resolver::new(ResolverSource::System));
        let roots = Arc::new(rustls::RootCertStore::empty());
        let tls = || RuleTls::open(roots, &[], None, &[]);
        Carrier::of(&rule, &Ways::new(), &resolver, tls)
    }

    fn proxy() -> Option<Proxy> {
        Some(Proxy {
            protocol: ProxyProtocol::Socks5,
            host: Host::parse("127.0.0.1").unwrap(),
            port: 1080,
            credentials: None,
            resolves: false,
        })
    }

    #[test]
    fn rule_has_a_tunnel_or_a_proxy() {
        assert!(matches!(carrier(None, None), Ok(Carrier::System)));
        assert!(matches!(carrier(None, proxy()), Ok(Carrier::Proxy(_))));
        let both = carrier(Some("OFFICE"), proxy());
        assert!(matches!(both, Err(BrokerError::TunnelAndProxy)));
    }

    #[tokio::test]
    async fn rule_whose_tunnel_is_missing_connects_to_nothing() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let addresses = [address.ip()];
        let destination = Destination::Addresses(&addresses, address.port());
        let system = carrier(None, None).unwrap();
        assert!(system.open(destination).await.is_ok());
        let missing = carrier(Some("OFFICE"), None).unwrap();
        assert!(missing.open(destination).await.is_err());
    }
}
