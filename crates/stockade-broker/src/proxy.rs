//! Connections through a proxy that a rule names: HTTP with CONNECT (RFC 9110, 9.3.6), with TLS to the proxy or
//! without, and SOCKS5 (RFC 1928, RFC 1929).
//!
//! Invariants:
//! 1. The operator named the proxy, so its address may be private. It is resolved once, and connected to what was
//!    resolved.
//! 2. A proxy gets an address that was checked. It gets a name only where its rule says that the proxy resolves names.
//! 3. Credentials go to the proxy and nowhere else. No error names the proxy, or repeats what it said.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use stockade_http::Host;
use tokio_socks::TargetAddr;
use tokio_socks::tcp::Socks5Stream;
use tokio_util::task::AbortOnDropHandle;

use crate::connect::{BrokerError, ConnectFailure, Destination, ProxyFailure, Wire, tls_error};
use crate::race::{MOST_TRIED, race};
use crate::resolve::Resolver;
use crate::rule_tls::RuleTls;
use crate::target::Target;

/// Bytes of the head of a proxy's answer.
const MOST_HEAD: usize = 16 * 1024;
/// Fields of the head of a proxy's answer.
const MOST_FIELDS: usize = 64;
/// Bytes of a user name and of a password (RFC 1929, 2).
const MOST_CREDENTIALS: usize = 255;

/// What a proxy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// HTTP without TLS.
    Http,
    /// HTTP over TLS.
    Https,
    /// SOCKS, version 5.
    Socks5,
}

/// A user name and a password for a proxy, `user:password`, which `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyCredentials(String);

/// A user name and a password.
#[derive(Debug)]
struct Known<'a> {
    user: &'a str,
    password: &'a str,
}

impl ProxyCredentials {
    /// `user:password`; the password may contain colons. The form is checked where the rule is opened.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    fn parts(&self) -> Option<Known<'_>> {
        let (user, password) = self.0.split_once(':')?;
        let fits = |part: &str| {
            (1..=MOST_CREDENTIALS).contains(&part.len()) && !part.chars().any(char::is_control)
        };
        (fits(user) && fits(password)).then_some(Known { user, password })
    }

    /// The value of `Proxy-Authorization` (RFC 7617, 2).
    fn basic(&self) -> Option<HeaderValue> {
        let encoded = STANDARD.encode(&self.0);
        let mut value = HeaderValue::try_from(format!("Basic {encoded}")).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

impl fmt::Debug for ProxyCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProxyCredentials(…)")
    }
}

/// The proxy of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// What it speaks.
    pub protocol: ProxyProtocol,
    /// Where it is.
    pub host: Host,
    /// At which port.
    pub port: u16,
    /// Who the broker is to it.
    pub credentials: Option<ProxyCredentials>,
    /// Whether it gets names and resolves them itself. Then nobody checks the addresses of a name.
    pub resolves: bool,
}

/// Opens connections through the proxy of one rule.
pub(crate) struct ProxyClient {
    proxy: Proxy,
    /// For [`ProxyProtocol::Https`].
    tls: Option<RuleTls>,
    resolver: Arc<Resolver>,
}

impl ProxyClient {
    /// `tls` is what proves the proxy to the broker, where it speaks TLS.
    ///
    /// # Errors
    /// The credentials are not `user:password`.
    pub(crate) fn new(
        proxy: Proxy,
        tls: RuleTls,
        resolver: Arc<Resolver>,
    ) -> Result<Self, BrokerError> {
        if (proxy.credentials.as_ref()).is_some_and(|credentials| credentials.parts().is_none()) {
            return Err(BrokerError::ProxyCredentials);
        }
        Ok(Self {
            tls: (proxy.protocol == ProxyProtocol::Https).then_some(tls),
            proxy,
            resolver,
        })
    }

    /// Whether requests to `target` go to the proxy itself, in absolute form (RFC 9112, 3.2.2): without TLS, where the
    /// proxy resolves the name. A proxy that gets an address instead of a name could not write the Host header.
    pub(crate) fn forwards(&self, target: &Target) -> bool {
        self.proxy.resolves
            && self.proxy.protocol != ProxyProtocol::Socks5
            && !target.scheme.is_secure()
            && !target.websocket
    }

    /// What a request to the proxy itself proves who the broker is with.
    pub(crate) fn authorization(&self) -> Option<HeaderValue> {
        self.proxy.credentials.as_ref()?.basic()
    }

    /// A connection to the proxy itself.
    pub(crate) async fn reach(&self) -> Result<Wire, ConnectFailure> {
        let unreached = || ConnectFailure::Proxy(ProxyFailure::Unreached);
        let addresses = self.resolver.addresses(&self.proxy.host).await;
        let addresses = addresses.map_err(|_| unreached())?;
        let tcp = race(&addresses, self.proxy.port).await;
        let tcp = tcp.map_err(|_| unreached())?;
        // A small request must not wait for the answer to the one before.
        let _ = tcp.set_nodelay(true);
        let Some(tls) = &self.tls else {
            return Ok(Wire::Left(tcp));
        };
        let name = match &self.proxy.host {
            Host::Address(address) => Some(ServerName::from(*address)),
            Host::Name(name) => ServerName::try_from(name.clone()).ok(),
        };
        let connector = tls.connector().await;
        let stream = connector.connect(name.ok_or_else(unreached)?, tcp).await;
        let stream = stream.map_err(|error| {
            ConnectFailure::Tls(format!("with the proxy, {}", tls_error(&error)))
        })?;
        Ok(Wire::Right(Box::new(stream)))
    }

    /// A connection to the destination, and the address that the proxy was given.
    pub(crate) async fn open(
        &self,
        destination: Destination<'_>,
    ) -> Result<(Wire, Option<IpAddr>), ConnectFailure> {
        let (addresses, port) = match destination {
            Destination::Host(host, port) => return Ok((self.ask(host, port).await?, None)),
            Destination::Addresses(addresses, port) => (addresses, port),
        };
        let mut last = ConnectFailure::Proxy(ProxyFailure::Unreachable);
        for &address in addresses.iter().take(MOST_TRIED) {
            match self.ask(&Host::Address(address), port).await {
                Ok(wire) => return Ok((wire, Some(address))),
                Err(ConnectFailure::Proxy(failure)) if failure.is_of_the_address() => {
                    last = ConnectFailure::Proxy(failure);
                }
                Err(failure) => return Err(failure),
            }
        }
        Err(last)
    }

    /// Asks for one connection.
    async fn ask(&self, host: &Host, port: u16) -> Result<Wire, ConnectFailure> {
        let wire = self.reach().await?;
        let opened = match self.proxy.protocol {
            ProxyProtocol::Socks5 => self.socks(wire, host, port).await,
            ProxyProtocol::Http | ProxyProtocol::Https => self.tunnel(wire, host, port).await,
        };
        opened.map_err(ConnectFailure::Proxy)
    }

    async fn socks(&self, wire: Wire, host: &Host, port: u16) -> Result<Wire, ProxyFailure> {
        let known = self
            .proxy
            .credentials
            .as_ref()
            .and_then(ProxyCredentials::parts);
        let to = match host {
            Host::Address(address) => TargetAddr::Ip(SocketAddr::new(*address, port)),
            Host::Name(name) => TargetAddr::Domain(name.as_str().into(), port),
        };
        let opened = match known {
            None => Socks5Stream::connect_with_socket(wire, to).await,
            Some(Known { user, password }) => {
                Socks5Stream::connect_with_password_and_socket(wire, to, user, password).await
            }
        };
        match opened {
            // Nothing is read ahead of what was asked for.
            Ok(stream) => Ok(Wire::Right(Box::new(stream.into_inner()))),
            Err(error) => Err(of_socks(&error)),
        }
    }

    async fn tunnel(&self, wire: Wire, host: &Host, port: u16) -> Result<Wire, ProxyFailure> {
        let broken = |_| ProxyFailure::Protocol;
        let (mut sender, connection) = http1::Builder::new()
            .max_headers(MOST_FIELDS)
            .max_buf_size(MOST_HEAD)
            .handshake(TokioIo::new(wire))
            .await
            .map_err(broken)?;
        let authority = format!("{host}:{port}");
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.method_mut() = Method::CONNECT;
        *request.uri_mut() = Uri::try_from(&authority).map_err(|_| ProxyFailure::Protocol)?;
        let value = HeaderValue::try_from(authority).map_err(|_| ProxyFailure::Protocol)?;
        request.headers_mut().insert(header::HOST, value);
        if let Some(value) = self.authorization() {
            let headers = request.headers_mut();
            headers.insert(header::PROXY_AUTHORIZATION, value);
        }
        // What is upgraded lives on without this task.
        let driver = tokio::spawn(connection.with_upgrades());
        let _driver = AbortOnDropHandle::new(driver);
        let response = sender.send_request(request).await.map_err(broken)?;
        match response.status() {
            status if status.is_success() => {}
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => return Err(ProxyFailure::Credentials),
            status => return Err(ProxyFailure::Status(status.as_u16())),
        }
        let upgraded = hyper::upgrade::on(response).await.map_err(broken)?;
        Ok(Wire::Right(Box::new(TokioIo::new(upgraded))))
    }
}

/// What a SOCKS proxy's refusal means (RFC 1928, 6).
fn of_socks(error: &tokio_socks::Error) -> ProxyFailure {
    use tokio_socks::Error;
    match error {
        Error::PasswordAuthFailure(_)
        | Error::AuthorizationRequired
        | Error::NoAcceptableAuthMethods => ProxyFailure::Credentials,
        Error::ConnectionNotAllowedByRuleset | Error::CommandNotSupported => ProxyFailure::Refused,
        Error::NetworkUnreachable
        | Error::HostUnreachable
        | Error::ConnectionRefused
        | Error::TtlExpired
        | Error::GeneralSocksServerFailure
        | Error::AddressTypeNotSupported => ProxyFailure::Unreachable,
        _ => ProxyFailure::Protocol,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_without_both_parts_have_none() {
        let long = format!("user:{}", "p".repeat(MOST_CREDENTIALS + 1));
        for text in ["", "user", ":password", "user:", "us\ner:password", &long] {
            assert!(ProxyCredentials::new(text).parts().is_none(), "{text:?}");
        }
        let known = ProxyCredentials::new("user:pass:word");
        assert_eq!(known.parts().unwrap().password, "pass:word");
        assert_eq!(format!("{known:?}"), "ProxyCredentials(…)");
    }
}
