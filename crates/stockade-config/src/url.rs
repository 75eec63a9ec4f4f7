//! Patterns of URLs that an instance answers.

use std::fmt;
use std::net::IpAddr;

use stockade_http::{
    Host, HostError, HostPattern, HostPatternError, PathError, PathPattern, Scheme,
    normalize_escapes,
};

use crate::diagnostic::shown;
use crate::keys::URL;
use crate::tree::Message;

/// One entry of `urls`: `https://a.example.com`, `*.example.com/api/*`, `/path`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UrlPattern {
    /// `None` matches both.
    pub scheme: Option<Scheme>,
    /// Which hosts.
    pub host: HostPattern,
    /// `None` matches any.
    pub port: Option<u16>,
    /// Which paths.
    pub path: PathPattern,
    /// As it was written.
    pub text: String,
}

impl fmt::Display for UrlPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl UrlPattern {
    /// Reads one entry of `urls`.
    pub(crate) fn parse(text: &str) -> Result<Self, Message> {
        let (scheme, rest) = split_scheme(text)?;
        if let Some(at) = rest.find(['?', '#']) {
            let mut message = Message::allowed(
                "routes match hosts and paths, not queries and fragments",
                URL.what,
            );
            message.nearest = text
                .get(..text.len() - (rest.len() - at))
                .map(str::to_owned);
            return Err(message);
        }
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, ""),
        };
        if authority.contains('@') {
            let what = "names and passwords have no place in a URL pattern";
            return Err(Message::allowed(what, URL.what));
        }
        let (host, port) = if authority.is_empty() {
            if scheme.is_some() {
                return Err(Message::allowed("the host is missing", URL.what));
            }
            (HostPattern::Any, None)
        } else {
            let (name, port) = split_port(authority)?;
            (host(name)?, port)
        };
        Ok(Self {
            scheme,
            host,
            port,
            path: path_pattern(path)?,
            text: text.to_owned(),
        })
    }

    /// Whether neither is more specific. What names a port wins over what does not, then what names a
    /// scheme.
    pub(crate) fn ambiguous_with(&self, other: &Self) -> bool {
        self.host == other.host
            && self.path == other.path
            && self.scheme == other.scheme
            && self.port == other.port
    }
}

/// Reads the path of a pattern.
pub(crate) fn path_pattern(path: &str) -> Result<PathPattern, Message> {
    if path.is_empty() || path == "/" || path == "/*" {
        return Ok(PathPattern::Under(String::new()));
    }
    let (path, under) = match path.strip_suffix("/*") {
        Some(path) => (path, true),
        None => (path, false),
    };
    if path.contains('*') {
        let allowed = "a path such as /about, or one that ends with /* for all below it";
        let what = "a * stands only at the end of a path, after a slash";
        return Err(Message::allowed(what, allowed));
    }
    let example = "a path such as /about";
    if path.contains('\\') || path.contains("//") {
        let what = "no path of a request has // or \\ in it after it is normalised";
        return Err(Message::allowed(what, example));
    }
    let path = normalize_escapes(path).map_err(|error| match error {
        PathError::Escape => {
            let allowed = "% and two hexadecimal digits; a % itself is %25";
            Message::allowed("a % is followed by no escape", allowed)
        }
        PathError::Control => {
            Message::allowed("control characters are refused in every path", example)
        }
        error => Message::allowed(error.to_string(), example),
    })?;
    if path.split('/').any(|part| matches!(part, "." | "..")) {
        let what = "no path of a request has . or .. in it after it is normalised";
        return Err(Message::allowed(what, example));
    }
    Ok(if under {
        PathPattern::Under(path)
    } else {
        PathPattern::Exact(path)
    })
}

fn split_scheme(text: &str) -> Result<(Option<Scheme>, &str), Message> {
    match text.split_once("://") {
        Some(("https", rest)) => Ok((Some(Scheme::Https), rest)),
        Some(("http", rest)) => Ok((Some(Scheme::Http), rest)),
        Some((scheme, rest)) if !scheme.contains('/') => {
            let other = match scheme.to_ascii_lowercase().as_str() {
                "wss" | "https" => format!("https://{rest}"),
                "ws" | "http" => format!("http://{rest}"),
                _ => rest.to_owned(),
            };
            let what = format!("{:?} is not a scheme here", shown(scheme));
            let mut message = Message::allowed(what, "https://, http:// or neither, for both");
            message.nearest = Some(shown(&other));
            Err(message)
        }
        _ => Ok((None, text)),
    }
}

/// Host and port of an authority.
pub(crate) fn split_port(authority: &str) -> Result<(&str, Option<u16>), Message> {
    let after = authority.rfind(']').map_or(0, |bracket| bracket + 1);
    let colon = authority.get(after..).and_then(|rest| rest.find(':'));
    let Some(colon) = colon.map(|colon| after + colon) else {
        return Ok((authority, None));
    };
    let (host, port) = (authority.get(..colon), authority.get(colon + 1..));
    let port = port.unwrap_or_default();
    let number = port.parse::<u16>().ok().filter(|number| *number > 0);
    match (host, number) {
        (Some(host), Some(number)) if !port.starts_with('+') => Ok((host, Some(number))),
        _ => Err(Message::allowed(
            format!("{:?} is not a port", shown(port)),
            "a port from 1 to 65535; an IPv6 address stands in brackets",
        )),
    }
}

/// Reads a host, maybe with a wildcard as its leftmost label. Stricter than [`HostPattern::parse`]: an IPv4 address
/// has its usual form, an IPv6 address has brackets, and a label has no outer hyphen (RFC 1123, section 2.1;
/// underscores are in use).
pub(crate) fn host(text: &str) -> Result<HostPattern, Message> {
    const HYPHENS: &str = "labels are letters, digits and inner hyphens";
    const FOUR: &str = "an IPv4 address is written as four numbers, as 192.0.2.7";
    let pattern = HostPattern::parse(text);
    if text.starts_with('[') {
        return pattern.map_err(|_| {
            let what = format!("{:?} is not an IPv6 address", shown(text));
            Message::allowed(what, "an address in brackets, as [::1]")
        });
    }
    let plain = text.strip_prefix("*.").unwrap_or(text);
    let refuse = |why: &str| {
        Message::allowed(
            format!("{:?} is not a host name: {why}", shown(plain)),
            "a name such as a.example.com, or *.example.com",
        )
    };
    let pattern = pattern.map_err(|error| {
        refuse(match error {
            HostPatternError::Star { .. } => {
                "a * stands only as the leftmost label, for all names below"
            }
            HostPatternError::Host { why, .. } => match why {
                HostError::Empty | HostError::Long => "it has 1 to 253 characters",
                HostError::Label => "each label has 1 to 63 characters",
                HostError::Character(character) if !character.is_ascii() => {
                    "letters beyond ASCII are written in Punycode, as xn--bcher-kva.example"
                }
                HostError::Character(_) | HostError::Brackets => HYPHENS,
                HostError::Number => FOUR,
            },
        })
    })?;
    match &pattern {
        HostPattern::Any => {}
        HostPattern::Exact(Host::Address(IpAddr::V4(address))) => {
            if plain.strip_suffix('.').unwrap_or(plain) != address.to_string() {
                return Err(refuse(FOUR));
            }
        }
        HostPattern::Exact(Host::Address(IpAddr::V6(_))) => return Err(refuse(HYPHENS)),
        HostPattern::Exact(Host::Name(name)) | HostPattern::Below(name) => {
            let outer = |label: &str| label.starts_with('-') || label.ends_with('-');
            if name.split('.').any(outer) {
                return Err(refuse(HYPHENS));
            }
        }
    }
    Ok(pattern)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    fn parse(text: &str) -> UrlPattern {
        UrlPattern::parse(text).unwrap_or_else(|message| panic!("{text}: {}", message.what))
    }

    #[test]
    fn url_pattern_parts_are_read() {
        let url = parse("https://A.Example.com.:8443/api/*");
        assert_eq!(url.scheme, Some(Scheme::Https));
        assert_eq!(
            url.host,
            HostPattern::Exact(Host::Name("a.example.com".to_owned()))
        );
        assert_eq!(url.port, Some(8443));
        assert_eq!(url.path, PathPattern::Under("/api".to_owned()));
        let url = parse("*.example.com");
        assert_eq!(url.host, HostPattern::Below("example.com".to_owned()));
        assert_eq!(url.path, PathPattern::Under(String::new()));
        let url = parse("/about");
        assert_eq!(url.host, HostPattern::Any);
        assert_eq!(url.path, PathPattern::Exact("/about".to_owned()));
        assert_eq!(
            parse("[::1]:80/").host,
            HostPattern::Exact(Host::Address(IpAddr::V6(Ipv6Addr::LOCALHOST)))
        );
        assert_eq!(parse("*").host, HostPattern::Any);
        assert_eq!(parse("a.b/").path, parse("a.b").path);
    }

    #[test]
    fn url_pattern_path_is_normalised() {
        let path = |text: &str| parse(text).path;
        assert_eq!(
            path("/%61%2f%c3%a4"),
            PathPattern::Exact("/a%2F%C3%A4".to_owned())
        );
        assert_eq!(path("/ä"), PathPattern::Exact("/%C3%A4".to_owned()));
        let kept = "/@:!$&'()+,;=|[]%5C";
        assert_eq!(path(kept), PathPattern::Exact(kept.to_owned()));
    }

    #[test]
    fn url_pattern_that_never_matches_is_refused() {
        for text in [
            "https://",
            "ftp://a.b",
            "a.b/x?y",
            "a.*.b",
            "*a.b",
            "a.b:0",
            "a.b:99999",
            "a.b:+8",
            "a..b",
            "-a.b",
            "ä.example",
            "a.b/*/c",
            "a.b//c",
            "a.b/../c",
            "a.b/%2e%2e/c",
            "a.b/%zz",
            "a.b/%00",
            "u@a.b",
            "1.2.3",
            "0x7f.1",
            "[::1",
            "a.b/x*",
            "999.1.1.1",
            "a.b/\\",
        ] {
            assert!(UrlPattern::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn url_patterns_of_equal_rank_are_ambiguous() {
        let ambiguous = |a, b| parse(a).ambiguous_with(&parse(b));
        assert!(ambiguous("a.b/x", "A.B./%78"));
        assert!(ambiguous("a.b:80", "a.b:80/*"));
        assert!(!ambiguous("a.b", "https://a.b"));
        assert!(!ambiguous("a.b", "a.b:80"));
        assert!(!ambiguous("http://a.b", "https://a.b"));
        assert!(!ambiguous("a.b/x", "a.b/x/*"));
        assert!(!ambiguous("*.b", "a.b"));
    }
}
