//! Which hosts a pattern in a rule or of a secret means.

use stockade_http::{Host, HostPattern};

/// Whether `host` is meant. `*` means every name and no address: an address is reached only where a rule has it.
#[must_use]
pub fn matches(pattern: &HostPattern, host: &Host) -> bool {
    match (pattern, host) {
        (HostPattern::Any, Host::Name(_)) => true,
        (HostPattern::Exact(expected), host) => expected == host,
        (HostPattern::Below(parent), Host::Name(name)) => name
            .strip_suffix(parent.as_str())
            .and_then(|front| front.strip_suffix('.'))
            .is_some_and(|front| !front.is_empty()),
        (HostPattern::Any | HostPattern::Below(_), Host::Address(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, host: &str) -> bool {
        let pattern = HostPattern::parse(pattern).unwrap();
        matches(&pattern, &Host::parse(host).unwrap())
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
}
