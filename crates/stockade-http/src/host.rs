//! A host as a URL names it, in its one canonical form.
//!
//! Invariant: a [`Host`] is either an address or a lower-case name of letters, digits, `-`, `_` and
//! dots, without a trailing dot, whose last label is not a number. So nothing that some resolver reads
//! as an address (`127.1`, `0x7f000001`, `2130706433`, `017700000001`) passes as a name.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest name (RFC 1035, 2.3.4), without its trailing dot.
const MAX_HOST_BYTES: usize = 253;

/// A checked host.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// An address literal.
    Address(IpAddr),
    /// A name, in canonical form.
    Name(String),
}

/// A host that cannot be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Nothing there.
    #[error("the host is empty")]
    Empty,
    /// Longer than a name can be.
    #[error("the host is longer than {MAX_HOST_BYTES} characters")]
    Long,
    /// A label is empty, or longer than 63 characters.
    #[error("the host has an empty label, or one of more than 63 characters")]
    Label,
    /// A character that no host has; percent-encoding and zone ids are refused as well.
    #[error("the host has the character {0:?}")]
    Character(char),
    /// The last label is a number, but the whole is not an IPv4 address.
    #[error("the host ends in a number and is not an IPv4 address")]
    Number,
    /// Brackets around something that is not an IPv6 address.
    #[error("the host is in brackets and is not an IPv6 address (zones are not allowed)")]
    Brackets,
}

impl Host {
    /// Reads a host as it stands in a URL: IPv6 in brackets, IPv4 in any form that the URL Standard
    /// knows, or an ASCII name (internationalised names as `xn--…`).
    ///
    /// # Errors
    /// The text is none of these. Source: <https://url.spec.whatwg.org/#host-parsing>.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(HostError::Brackets)?;
            let address: Ipv6Addr = inner.parse().map_err(|_| HostError::Brackets)?;
            return Ok(Self::Address(IpAddr::V6(address)));
        }
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Err(HostError::Empty);
        }
        if text.len() > MAX_HOST_BYTES {
            return Err(HostError::Long);
        }
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if let Some(character) = text.chars().find(|&c| !is_allowed(c)) {
            return Err(HostError::Character(character));
        }
        if text
            .split('.')
            .any(|label| label.is_empty() || label.len() > 63)
        {
            return Err(HostError::Label);
        }
        let text = text.to_ascii_lowercase();
        let last = text.rsplit('.').next().unwrap_or(&text);
        if last.bytes().all(|b| b.is_ascii_digit()) || number(last).is_some() {
            return ipv4(&text)
                .map(|v4| Self::Address(IpAddr::V4(v4)))
                .ok_or(HostError::Number);
        }
        Ok(Self::Name(text))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// The URL Standard's IPv4 parser: one to four numbers, decimal, octal or hexadecimal, the last one
/// filling what is left.
fn ipv4(text: &str) -> Option<Ipv4Addr> {
    let parts: Vec<u64> = text.split('.').map(number).collect::<Option<_>>()?;
    let (last, front) = parts.split_last()?;
    if front.len() > 3 || front.iter().any(|&part| part > 255) {
        return None;
    }
    if *last >= 256_u64.pow(u32::try_from(4 - front.len()).ok()?) {
        return None;
    }
    let front = front
        .iter()
        .zip([24, 16, 8])
        .fold(0, |sum, (part, shift)| sum | part << shift);
    u32::try_from(front | last).ok().map(Ipv4Addr::from_bits)
}

fn number(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x") {
        Some("") => return Some(0),
        Some(hex) => (hex, 16),
        None if text.len() > 1 && text.starts_with('0') => (&text[1..], 8),
        None => (text, 10),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    u64::from_str_radix(digits, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        assert_eq!(
            Host::parse(text).map(|host| host.to_string()).as_deref(),
            Ok(expected),
            "{text}"
        );
    }

    #[test]
    fn name_in_any_case_and_with_trailing_dot_is_canonical() {
        check("Example.COM", "example.com");
        check("example.com.", "example.com");
        check("xn--bcher-kva.example", "xn--bcher-kva.example");
        check("_dmarc.example.com", "_dmarc.example.com");
        check("localhost", "localhost");
        check("1.2.3.4.example", "1.2.3.4.example");
    }

    #[test]
    fn address_in_odd_forms_is_the_address() {
        for text in [
            "127.0.0.1",
            "127.1",
            "127.0.1",
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "0X7F.0.0.1",
            "017700000001",
            "0177.0.0.01",
            "127.0.0.1.",
        ] {
            check(text, "127.0.0.1");
        }
        check("0", "0.0.0.0");
        check("0x", "0.0.0.0");
        check("[::1]", "[::1]");
        check("[0:0:0:0:0:FFFF:7F00:1]", "[::ffff:127.0.0.1]");
    }

    #[test]
    fn host_that_is_neither_is_refused() {
        for text in [
            "",
            ".",
            "..",
            "a..b",
            ".a",
            "a b",
            "a%2eb",
            "exa\u{301}mple",
            "ⓔxample.com",
            "127.0.0.1.2",
            "256.1.1.1",
            "1.2.3.256",
            "4294967296",
            "0x1ffffffff",
            "example.0x7f",
            "example.09",
            "example.1",
            "[::1",
            "::1",
            "[fe80::1%eth0]",
            "[127.0.0.1]",
            "[]",
            "a/b",
            "a@b",
            "a:b",
            "a\0b",
            "a\r\nb",
            "99999999999999999999",
            "1.08",
        ] {
            assert!(Host::parse(text).is_err(), "{text:?}");
        }
        assert!(Host::parse(&"a.".repeat(127)).is_ok());
        assert!(Host::parse(&"a.".repeat(128)).is_err());
        assert!(Host::parse(&"a".repeat(64)).is_err());
    }

    /// Whatever is taken is canonical: it reads as itself, and as an address wherever another reader
    /// would take it for one.
    #[test]
    fn host_of_any_text_is_canonical() {
        let alphabet = b"019axfAZ.-_:[]%x0@/ ";
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut taken = 0;
        for _ in 0..200_000 {
            let mut text = String::new();
            loop {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let at = usize::try_from(state >> 33).unwrap() % (alphabet.len() + 1);
                match alphabet.get(at) {
                    Some(&byte) if text.len() < 20 => text.push(char::from(byte)),
                    _ => break,
                }
            }
            let Ok(host) = Host::parse(&text) else {
                continue;
            };
            taken += 1;
            let shown = host.to_string();
            assert_eq!(Host::parse(&shown), Ok(host.clone()), "{text:?}");
            if let Host::Name(name) = host {
                assert!(name.parse::<IpAddr>().is_err(), "{text:?}");
            }
        }
        assert!(taken > 10_000, "{taken}");
    }
}
