//! Host names as TLS compares them: lower case, without port and trailing dot.

use std::collections::HashMap;

/// A host as a client names it, in a `Host` header or as SNI, ready to be looked up. The result is a
/// key, not proof that the name is well formed.
pub(crate) fn lookup_form(host: &str) -> String {
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => match host.rsplit_once(':') {
            Some((name, port))
                if port.bytes().all(|b| b.is_ascii_digit()) && !name.contains(':') =>
            {
                name
            }
            _ => host,
        },
    };
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

/// Checks a pattern of the options or a name of a certificate: a host name in ASCII (RFC 1123, with
/// underscores), or `*.` and one.
pub(crate) fn pattern_form(pattern: &str) -> Option<String> {
    let lower = pattern.to_ascii_lowercase();
    let name = lower.strip_prefix("*.").unwrap_or(&lower);
    let fine = !name.is_empty()
        && name.len() <= 253
        && name.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        });
    fine.then_some(lower)
}

/// What a wildcard pattern stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wildcard {
    /// Exactly one label, as in certificates (RFC 6125, section 6.4.3).
    OneLabel,
    /// One or more labels. A policy must hold for whatever a route could match.
    AnyDepth,
}

/// Finds what belongs to a host: the exact name first, then the longest wildcard.
#[derive(Debug)]
pub(crate) struct HostMap<T> {
    exact: HashMap<String, T>,
    /// By what follows `*.`.
    below: HashMap<String, T>,
    wildcard: Wildcard,
}

impl<T> HostMap<T> {
    pub(crate) fn new(wildcard: Wildcard) -> Self {
        Self {
            exact: HashMap::new(),
            below: HashMap::new(),
            wildcard,
        }
    }

    /// The place of a pattern made by [`pattern_form`].
    pub(crate) fn entry(
        &mut self,
        pattern: &str,
    ) -> std::collections::hash_map::Entry<'_, String, T> {
        match pattern.strip_prefix("*.") {
            Some(domain) => self.below.entry(domain.to_owned()),
            None => self.exact.entry(pattern.to_owned()),
        }
    }

    /// `host` comes from [`lookup_form`].
    pub(crate) fn find(&self, host: &str) -> Option<&T> {
        if let Some(found) = self.exact.get(host) {
            return Some(found);
        }
        let mut rest = host;
        while let Some((label, domain)) = rest.split_once('.') {
            if label.is_empty() {
                return None;
            }
            if let Some(found) = self.below.get(domain) {
                return Some(found);
            }
            if self.wildcard == Wildcard::OneLabel {
                return None;
            }
            rest = domain;
        }
        None
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.below.is_empty()
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.exact.values().chain(self.below.values())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookup_form_strips_port_dot_and_case() {
        for (host, expect) in [
            ("A.Example", "a.example"),
            ("a.example.", "a.example"),
            ("a.example:8443", "a.example"),
            ("a.example.:8443", "a.example"),
            ("[::1]:8443", "::1"),
            ("[::1]", "::1"),
            ("::1", "::1"),
            ("a.example:", "a.example"),
            ("", ""),
        ] {
            assert_eq!(lookup_form(host), expect, "{host}");
        }
    }

    #[test]
    fn pattern_form_refuses_what_is_no_host() {
        for good in [
            "a.example",
            "*.example",
            "A-1.example",
            "localhost",
            "_x.example",
        ] {
            assert!(pattern_form(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "*",
            "*.",
            "a..b",
            "a.*.b",
            "*a.b",
            "-a.b",
            "a b",
            "a.b:1",
            "ä.example",
            ".a",
        ] {
            assert!(pattern_form(bad).is_none(), "{bad}");
        }
    }

    fn map(wildcard: Wildcard) -> HostMap<u8> {
        let mut map = HostMap::new(wildcard);
        for (pattern, value) in [("a.example", 1), ("*.example", 2), ("*.b.example", 3)] {
            map.entry(pattern).or_insert(value);
        }
        map
    }

    #[test]
    fn find_prefers_exact_then_longest_wildcard() {
        for (host, expect) in [
            ("a.example", Some(1)),
            ("c.example", Some(2)),
            ("c.b.example", Some(3)),
            ("x.c.b.example", Some(3)),
            ("x.y.example", Some(2)),
            ("example", None),
            (".example", None),
            ("", None),
        ] {
            assert_eq!(
                map(Wildcard::AnyDepth).find(host).copied(),
                expect,
                "{host}"
            );
        }
    }

    #[test]
    fn find_one_label_does_not_reach_deeper() {
        let map = map(Wildcard::OneLabel);
        assert_eq!(map.find("c.example"), Some(&2));
        assert_eq!(map.find("x.y.example"), None);
    }
}
