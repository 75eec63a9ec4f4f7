//! Patterns of hosts in rules: `api.example.com`, `*.example.com`, `*`, an address.

use std::fmt;

use hickory_resolver::Name;

use crate::host::{Host, HostError};

/// A pattern that a host is held against.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPattern(Kind);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Any,
    Exact(Host),
    /// The part after `*.`: any number of labels may stand before it, at least one.
    Below(String),
}

/// A pattern that cannot be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// The host in it cannot be one.
    #[error(
        "{text:?} is not a host: {why}; write a name (api.example.com), a wildcard (*.example.com), or an address (203.0.113.7, [2001:db8::7])"
    )]
    Host {
        /// The pattern.
        text: String,
        /// What is wrong.
        why: HostError,
    },
    /// A star anywhere but as the whole first label.
    #[error(
        "{text:?} has a * that is not the whole first label; write *.example.com, or * for every host"
    )]
    Star {
        /// The pattern.
        text: String,
    },
    /// An internationalised name that has no ASCII form.
    #[error("{text:?} is not a valid internationalised name")]
    International {
        /// The pattern.
        text: String,
    },
}

impl HostPattern {
    /// Reads a pattern. Names may be internationalised; `*.example.com` stands for every name below
    /// `example.com`, at any depth, not for itself; `*` for every name and no address.
    ///
    /// # Errors
    /// The text is none of these: scheme, port and path do not belong into it.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text == "*" {
            return Ok(Self(Kind::Any));
        }
        let (is_below, name) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if name.contains('*') {
            return Err(PatternError::Star {
                text: text.to_owned(),
            });
        }
        let ascii = if name.is_ascii() {
            name.to_owned()
        } else {
            Name::from_utf8(name)
                .map_err(|_| PatternError::International {
                    text: text.to_owned(),
                })?
                .to_ascii()
        };
        let wrap = |why| PatternError::Host {
            text: text.to_owned(),
            why,
        };
        // An address may come without the brackets that it has in a URL.
        let host = match ascii.parse() {
            Ok(address) => Host::Address(address),
            Err(_) => Host::parse(&ascii).map_err(wrap)?,
        };
        match (is_below, host) {
            (false, host) => Ok(Self(Kind::Exact(host))),
            (true, Host::Name(name)) => Ok(Self(Kind::Below(name))),
            (true, Host::Address(_)) => Err(PatternError::Star {
                text: text.to_owned(),
            }),
        }
    }

    /// Whether `host` is meant.
    #[must_use]
    pub fn matches(&self, host: &Host) -> bool {
        match (&self.0, host) {
            (Kind::Any, Host::Name(_)) => true,
            (Kind::Exact(expected), host) => expected == host,
            (Kind::Below(parent), Host::Name(name)) => name
                .strip_suffix(parent.as_str())
                .and_then(|front| front.strip_suffix('.'))
                .is_some_and(|front| !front.is_empty()),
            (Kind::Any | Kind::Below(_), Host::Address(_)) => false,
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Any => f.write_str("*"),
            Kind::Exact(host) => host.fmt(f),
            Kind::Below(parent) => write!(f, "*.{parent}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, host: &str) -> bool {
        HostPattern::parse(pattern)
            .unwrap()
            .matches(&Host::parse(host).unwrap())
    }

    #[test]
    fn exact_pattern_matches_itself_only() {
        assert!(check("api.example.com", "API.example.com."));
        assert!(!check("api.example.com", "example.com"));
        assert!(!check("api.example.com", "x.api.example.com"));
        assert!(!check("api.example.com", "api.example.com.evil.org"));
        assert!(check("127.0.0.1", "0x7f.1"));
        assert!(check("::1", "[0::1]"));
        assert!(check("[::1]", "[::1]"));
    }

    #[test]
    fn wildcard_matches_below_and_not_the_name_itself() {
        assert!(check("*.example.com", "a.example.com"));
        assert!(check("*.example.com", "a.b.example.com"));
        assert!(!check("*.example.com", "example.com"));
        assert!(!check("*.example.com", "badexample.com"));
        assert!(!check("*.example.com", "a.example.com.evil.org"));
    }

    #[test]
    fn star_matches_names_and_no_address() {
        assert!(check("*", "example.com"));
        assert!(!check("*", "8.8.8.8"));
        assert!(!check("*", "[::1]"));
    }

    #[test]
    fn international_pattern_matches_the_ascii_form() {
        assert!(check("bücher.example", "xn--bcher-kva.example"));
        assert!(check("*.BÜCHER.example", "shop.xn--bcher-kva.example"));
    }

    #[test]
    fn pattern_that_is_no_host_is_refused() {
        for text in [
            "",
            "*.",
            "*.*",
            "a.*.b",
            "a*",
            "https://example.com",
            "example.com:443",
            "example.com/x",
            "*.127.0.0.1",
            "a b",
            "%",
            "10.0.0.0/8",
        ] {
            assert!(HostPattern::parse(text).is_err(), "{text:?}");
        }
    }
}
