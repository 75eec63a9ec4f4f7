//! The host that a client names.

use std::net::{Ipv4Addr, Ipv6Addr};

/// A host in the one form in which hosts are compared, and the port that was named with it.
///
/// The form is a fixed point of the host parser that guests use (WHATWG URL).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Authority {
    /// Lower case, no final dot; IPv6 in brackets.
    pub(crate) host: String,
    /// None if none was named.
    pub(crate) port: Option<u16>,
}

/// Why a host is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AuthorityError {
    #[error("the host is empty or longer than 253 characters")]
    Length,
    #[error("the host has a character that host names cannot have")]
    Character,
    #[error("the host has an empty label or one longer than 63 characters")]
    Label,
    #[error("the host ends in a number and is not an IPv4 address")]
    Number,
    #[error("the host is not an IPv6 address")]
    Ipv6,
    #[error("the port is not a number from 1 to 65535")]
    Port,
}

impl Authority {
    /// Reads the value of `host` or `:authority` (RFC 9110, section 7.2): a host and maybe a port, and
    /// nothing else; no user information.
    pub(crate) fn parse(text: &str) -> Result<Self, AuthorityError> {
        if let Some(rest) = text.strip_prefix('[') {
            let (address, rest) = rest.split_once(']').ok_or(AuthorityError::Ipv6)?;
            let address: Ipv6Addr = address.parse().map_err(|_| AuthorityError::Ipv6)?;
            let port = match rest.strip_prefix(':') {
                Some(port) => read_port(port)?,
                None if rest.is_empty() => None,
                None => return Err(AuthorityError::Character),
            };
            let host = format!("[{address}]");
            return Ok(Self { host, port });
        }
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, read_port(port)?),
            None => (text, None),
        };
        let host = host.strip_suffix('.').unwrap_or(host);
        if host.is_empty() || host.len() > 253 {
            return Err(AuthorityError::Length);
        }
        let mut last = "";
        for label in host.split('.') {
            if label.is_empty() || label.len() > 63 {
                return Err(AuthorityError::Label);
            }
            if !label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            {
                return Err(AuthorityError::Character);
            }
            last = label;
        }
        // Guests would read such a host as an IPv4 address, in whatever base its parts are.
        let number = last.bytes().all(|byte| byte.is_ascii_digit())
            || last
                .strip_prefix("0x")
                .or_else(|| last.strip_prefix("0X"))
                .is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        if number && host.parse::<Ipv4Addr>().is_err() {
            return Err(AuthorityError::Number);
        }
        Ok(Self {
            host: host.to_ascii_lowercase(),
            port,
        })
    }
}

/// An empty port is the same as none (RFC 3986, section 3.2.3).
fn read_port(text: &str) -> Result<Option<u16>, AuthorityError> {
    if text.is_empty() {
        return Ok(None);
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) || text.len() > 5 {
        return Err(AuthorityError::Port);
    }
    match text.parse() {
        Ok(0) | Err(_) => Err(AuthorityError::Port),
        Ok(port) => Ok(Some(port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authority_of_a_host_is_brought_into_its_form() {
        let check = |text: &str, host: &str, port| {
            let expected = Authority {
                host: host.to_owned(),
                port,
            };
            assert_eq!(Authority::parse(text), Ok(expected), "{text}");
        };
        check("Example.COM", "example.com", None);
        check("example.com.", "example.com", None);
        check("example.com:8080", "example.com", Some(8080));
        check("example.com:", "example.com", None);
        check("127.0.0.1:1", "127.0.0.1", Some(1));
        check("[::1]", "[::1]", None);
        check("[2001:DB8:0::1]:443", "[2001:db8::1]", Some(443));
        check("a_b.localhost", "a_b.localhost", None);
        check("1a.2b", "1a.2b", None);
    }

    #[test]
    fn authority_that_is_no_host_is_refused() {
        let check = |text: &str, error| assert_eq!(Authority::parse(text), Err(error), "{text:?}");
        check("", AuthorityError::Length);
        check(".", AuthorityError::Length);
        check(":80", AuthorityError::Length);
        check(&"a.".repeat(128), AuthorityError::Length);
        check("a..b", AuthorityError::Label);
        check(".a", AuthorityError::Label);
        check(&"a".repeat(64), AuthorityError::Label);
        check("user@example.com", AuthorityError::Character);
        check("example.com/path", AuthorityError::Character);
        check("example.com, b.com", AuthorityError::Character);
        check("exa mple.com", AuthorityError::Character);
        check("ex%61mple.com", AuthorityError::Character);
        check("exämple.com", AuthorityError::Character);
        check("127.1", AuthorityError::Number);
        check("0x7f.1", AuthorityError::Number);
        check("example.0x", AuthorityError::Number);
        check("1.2.3.4.5", AuthorityError::Number);
        check("127.0.0.01", AuthorityError::Number);
        check("a:0", AuthorityError::Port);
        check("a:65536", AuthorityError::Port);
        check("a:+80", AuthorityError::Port);
        check("a:80:80", AuthorityError::Port);
        check("[::1", AuthorityError::Ipv6);
        check("[1.2.3.4]", AuthorityError::Ipv6);
        check("[::1%25eth0]", AuthorityError::Ipv6);
        check("[::1]x", AuthorityError::Character);
    }
}
