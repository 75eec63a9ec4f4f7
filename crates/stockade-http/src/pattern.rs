//! Patterns of hosts and paths: in routes, in rules of the data guard, for secrets.

use std::fmt;

use crate::host::{Host, HostError};

/// Which hosts. In routes an exact name wins over a wildcard, a longer wildcard over a shorter one, and any
/// wildcard over [`HostPattern::Any`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostPattern {
    /// This name or address.
    Exact(Host),
    /// Every name below this one, at any depth, but not the name itself: `*.example.com` is `example.com`. Lower
    /// case, no final dot.
    Below(String),
    /// Every host of a route; every name, but no address, in a rule of the data guard.
    Any,
}

/// Which paths, in normal form. An exact one wins, then the longest.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PathPattern {
    /// This path alone: `/about`.
    Exact(String),
    /// This path and all below it: `/api/*` is `/api`. All paths are the empty text.
    Under(String),
}

impl std::fmt::Display for PathPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(path) => f.write_str(path),
            Self::Under(path) => write!(f, "{path}/*"),
        }
    }
}

impl PathPattern {
    /// Whether a path in normal form is one of the pattern's.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => path == exact,
            Self::Under(under) => path
                .strip_prefix(under.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        }
    }
}

/// Why a text is not a pattern of hosts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostPatternError {
    /// The host in it is not a host.
    #[error(
        "{text:?} is not a host: {why}; write a name (api.example.com), a wildcard (*.example.com), or an address (203.0.113.7, [2001:db8::7])"
    )]
    Host {
        /// The pattern.
        text: String,
        /// What is wrong.
        why: HostError,
    },
    /// A star anywhere but as the whole first label of a name.
    #[error(
        "{text:?} has a * that is not the whole first label; write *.example.com, or * for every host"
    )]
    Star {
        /// The pattern.
        text: String,
    },
}

impl HostPattern {
    /// Reads a pattern: a name, an address with or without the brackets of a URL, `*.example.com`, or `*`.
    ///
    /// # Errors
    ///
    /// [`HostPatternError`] if the text is none of these. Schemes, ports and paths are not part of a pattern, and
    /// internationalised names are written as `xn--…`.
    pub fn parse(text: &str) -> Result<Self, HostPatternError> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let star = || HostPatternError::Star {
            text: text.to_owned(),
        };
        let (is_below, name) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if name.contains('*') {
            return Err(star());
        }
        let host = match name.parse() {
            Ok(address) => Host::Address(address),
            Err(_) => Host::parse(name).map_err(|why| HostPatternError::Host {
                text: text.to_owned(),
                why,
            })?,
        };
        match (is_below, host) {
            (false, host) => Ok(Self::Exact(host)),
            (true, Host::Name(name)) => Ok(Self::Below(name)),
            (true, Host::Address(_)) => Err(star()),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => host.fmt(f),
            Self::Below(parent) => write!(f, "*.{parent}"),
            Self::Any => f.write_str("*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pattern_in_any_form_is_canonical() {
        let check = |text: &str, expected: &str| {
            let pattern = HostPattern::parse(text).map(|pattern| pattern.to_string());
            assert_eq!(pattern.as_deref(), Ok(expected), "{text}");
        };
        check("API.example.com.", "api.example.com");
        check("*.Example.com", "*.example.com");
        check("*", "*");
        check("::1", "[::1]");
        check("[0::1]", "[::1]");
        check("0x7f.1", "127.0.0.1");
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
            "bücher.example",
            "a b",
            "%",
            "10.0.0.0/8",
        ] {
            assert!(HostPattern::parse(text).is_err(), "{text:?}");
        }
    }
}
