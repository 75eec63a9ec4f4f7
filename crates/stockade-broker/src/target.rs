//! Where a request goes: scheme, host and port, read once from the URL and used for everything.

use std::fmt;

use http::Uri;
use stockade_http::{Host, HostError, Scheme};

/// The longest URL that is taken, in bytes.
const MAX_URL: usize = 16 * 1024;

/// A checked target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) scheme: Scheme,
    /// The request opens a WebSocket.
    pub(crate) websocket: bool,
    pub(crate) host: Host,
    pub(crate) port: u16,
    /// Path and query as the request line has them; begins with `/`.
    pub(crate) path: String,
}

/// A URL that names no target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TargetError {
    #[error("it has {length} bytes, at most {MAX_URL} are allowed")]
    Long { length: usize },
    #[error("it must begin with http://, https://, ws:// or wss://")]
    Scheme,
    #[error("it has no host")]
    Relative,
    #[error("it has a user name or password; send an Authorization header instead")]
    Credentials,
    #[error(transparent)]
    Host(#[from] HostError),
    #[error("its port is not a number from 1 to 65535")]
    Port,
}

impl Target {
    pub(crate) fn parse(uri: &Uri) -> Result<Self, TargetError> {
        let (scheme, websocket) = match uri.scheme_str().map(str::to_ascii_lowercase).as_deref() {
            Some("http") => (Scheme::Http, false),
            Some("https") => (Scheme::Https, false),
            Some("ws") => (Scheme::Http, true),
            Some("wss") => (Scheme::Https, true),
            _ => return Err(TargetError::Scheme),
        };
        let authority = uri.authority().ok_or(TargetError::Relative)?.as_str();
        if authority.contains('@') {
            return Err(TargetError::Credentials);
        }
        // The host ends at the bracket, or at the only colon.
        let split = authority.rfind(']').map_or_else(
            || authority.find(':'),
            |end| authority[end..].find(':').map(|colon| end + colon),
        );
        let (host, port) = match split {
            Some(colon) => (&authority[..colon], Some(&authority[colon + 1..])),
            None => (authority, None),
        };
        let port = match port {
            None | Some("") => scheme.default_port(),
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits
                .parse()
                .ok()
                .filter(|&port| port != 0)
                .ok_or(TargetError::Port)?,
            Some(_) => return Err(TargetError::Port),
        };
        let path = match uri.path_and_query().map_or("/", |path| path.as_str()) {
            path if path.starts_with('/') => path.to_owned(),
            path => format!("/{path}"),
        };
        if path.len() > MAX_URL {
            return Err(TargetError::Long { length: path.len() });
        }
        Ok(Self {
            scheme,
            websocket,
            host: Host::parse(host)?,
            port,
            path,
        })
    }

    /// The scheme as it stands in the URL.
    pub(crate) fn scheme_name(&self) -> &'static str {
        match (self.scheme, self.websocket) {
            (scheme, false) => scheme.as_str(),
            (Scheme::Http, true) => "ws",
            (Scheme::Https, true) => "wss",
        }
    }

    /// `host`, or `host:port` where the port is not the scheme's own: the value of the Host header.
    pub(crate) fn authority(&self) -> String {
        if self.port == self.scheme.default_port() {
            self.host.to_string()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// `scheme://host:port`, without path and query, which may hold secrets.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme_name(), self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, expected: &str) {
        let target = Target::parse(&url.parse().unwrap());
        assert_eq!(
            target.map(|t| format!("{t} {}", t.path)).as_deref(),
            Ok(expected),
            "{url}"
        );
    }

    #[test]
    fn target_of_a_url_is_canonical() {
        check("https://Example.com", "https://example.com:443 /");
        check(
            "HTTP://example.com:8080/a?b=c",
            "http://example.com:8080 /a?b=c",
        );
        check("https://example.com:/", "https://example.com:443 /");
        check("https://example.com?x", "https://example.com:443 /?x");
        check("wss://[::1]:9/", "wss://[::1]:9 /");
        check("http://2130706433/", "http://127.0.0.1:80 /");
    }

    #[test]
    fn target_that_is_ambiguous_is_refused() {
        for url in [
            "https://user:secret@example.com/",
            "https://example.com@evil.example/",
            "ftp://example.com/",
            "file://host/etc/passwd",
            "/relative",
            "example.com:443",
            "https://example.com:0/",
            "https://[::1%25eth0]/",
            "https://1.2.3.4.5/",
        ] {
            let uri: Result<Uri, _> = url.parse();
            assert!(
                uri.is_err() || Target::parse(&uri.unwrap()).is_err(),
                "{url}"
            );
        }
        let long = format!("https://example.com/{}", "a".repeat(MAX_URL));
        assert!(Target::parse(&long.parse().unwrap()).is_err());
    }
}
