//! Who may send requests to a TCP listener: no web page of another site, not under a borrowed name.
//!
//! A browser lets any page connect to the loopback device. It names the page in `Origin`; a page that has
//! its own name point to 127.0.0.1 (DNS rebinding) gives itself away by the name in `Host`.

use std::net::IpAddr;

use hyper::header::{HOST, HeaderValue, ORIGIN};
use jsonrpsee::server::HttpRequest;
use jsonrpsee::server::middleware::http::Authority;

/// Names under which the server may be called.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hosts {
    /// Besides those of the loopback device, in lower case.
    pub(crate) names: Vec<String>,
    /// Any IP address as well: no name can be borrowed where none is used.
    pub(crate) addresses: bool,
}

impl Hosts {
    /// Whether the request may be carried out.
    pub(crate) fn admit<B>(&self, request: &HttpRequest<B>) -> bool {
        // Parsers of URLs drop what stands before an `@`; a `Host` has none (RFC 9110, 7.2).
        let plain = |host: &HeaderValue| !host.as_bytes().contains(&b'@');
        Authority::from_http_request(request).is_some_and(|host| self.knows(&host))
            && request.headers().get_all(HOST).iter().all(plain)
            && request
                .headers()
                .get_all(ORIGIN)
                .iter()
                .all(|origin| self.knows_origin(origin))
    }

    fn knows_origin(&self, origin: &HeaderValue) -> bool {
        let origin = origin.to_str().ok();
        origin
            .and_then(|origin| Authority::try_from(origin).ok())
            .is_some_and(|origin| self.knows(&origin))
    }

    fn knows(&self, host: &Authority) -> bool {
        let name = host.host.to_ascii_lowercase();
        let address = name
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<IpAddr>();
        match address {
            Ok(address) => self.addresses || address.is_loopback() || self.names.contains(&name),
            Err(_) => {
                name == "localhost" || name.ends_with(".localhost") || self.names.contains(&name)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(hosts: &Hosts, host: &str, origin: Option<&str>) -> bool {
        let mut request = hyper::Request::builder().uri("/").header("host", host);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        hosts.admit(&request.body(()).unwrap())
    }

    #[test]
    fn hosts_of_the_loopback_device_are_admitted() {
        let hosts = Hosts::default();
        for host in [
            "localhost",
            "LOCALHOST:7070",
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]:7070",
            "a.localhost",
        ] {
            assert!(admits(&hosts, host, None), "{host}");
            assert!(
                admits(&hosts, host, Some(&format!("http://{host}"))),
                "{host}"
            );
        }
    }

    #[test]
    fn hosts_with_other_names_are_refused() {
        let hosts = Hosts::default();
        for host in [
            "evil.example",
            "localhost.evil.example",
            "10.0.0.1",
            "127.0.0.1.evil.example",
            "",
            "x@localhost",
            "notlocalhost",
        ] {
            assert!(!admits(&hosts, host, None), "{host}");
        }
        for origin in [
            "https://evil.example",
            "null",
            "",
            "file://",
            "http://10.0.0.1",
        ] {
            assert!(!admits(&hosts, "localhost", Some(origin)), "{origin}");
        }
    }

    #[test]
    fn hosts_that_were_named_are_admitted() {
        let hosts = Hosts {
            names: vec!["api.example".to_owned()],
            addresses: true,
        };
        assert!(admits(
            &hosts,
            "api.example:80",
            Some("https://API.example")
        ));
        assert!(admits(&hosts, "10.0.0.1:7070", None));
        assert!(!admits(&hosts, "other.example", None));
    }
}
