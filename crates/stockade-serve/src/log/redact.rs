//! What must not be in a log.

use std::borrow::Cow;
use std::collections::BTreeSet;

/// Stands where something was left out.
const REDACTED: &str = "[redacted]";

/// Names of headers and query keys whose values are left out of the log, whatever the case of the name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Redaction {
    headers: BTreeSet<String>,
    query: BTreeSet<String>,
}

/// Headers that are in no log, whatever is configured.
const HEADERS: [&str; 4] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
];

impl Redaction {
    /// Redacts the values of these headers, and of these names in queries.
    pub(crate) fn new<'a>(
        headers: impl IntoIterator<Item = &'a str>,
        query: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let lower = |name: &str| name.to_ascii_lowercase();
        Self {
            headers: HEADERS.into_iter().chain(headers).map(lower).collect(),
            query: query.into_iter().map(lower).collect(),
        }
    }

    /// A header's value, or what stands for it.
    pub(crate) fn header<'a>(&self, name: &str, value: &'a str) -> &'a str {
        if self.headers.contains(&name.to_ascii_lowercase()) {
            REDACTED
        } else {
            value
        }
    }

    /// A path with its query, without the values of named keys. Keys are compared as they are written and
    /// decoded.
    pub(crate) fn target<'a>(&self, target: &'a str) -> Cow<'a, str> {
        let Some((path, query)) = target.split_once('?') else {
            return Cow::Borrowed(target);
        };
        let mut changed = false;
        let mut shown = String::with_capacity(target.len());
        shown.push_str(path);
        for (at, pair) in query.split('&').enumerate() {
            shown.push(if at == 0 { '?' } else { '&' });
            match pair.split_once('=') {
                Some((key, value))
                    if !value.is_empty()
                        && self.query.contains(&decoded(key).to_ascii_lowercase()) =>
                {
                    shown.push_str(key);
                    shown.push('=');
                    shown.push_str(REDACTED);
                    changed = true;
                }
                _ => shown.push_str(pair),
            }
        }
        if changed {
            Cow::Owned(shown)
        } else {
            Cow::Borrowed(target)
        }
    }
}

/// A query key without its percent signs.
fn decoded(key: &str) -> String {
    let mut bytes = Vec::with_capacity(key.len());
    let mut rest = key.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let hex = |byte: u8| char::from(byte).to_digit(16);
        match (first, tail) {
            (b'%', [high, low, ..]) if let (Some(high), Some(low)) = (hex(*high), hex(*low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redaction_leaves_out_named_values() {
        let redaction = Redaction::new(["x-internal"], ["Session", "token"]);
        for (target, shown) in [
            ("/a", "/a"),
            ("/a?b=c", "/a?b=c"),
            ("/a?token=c&b=1", "/a?token=[redacted]&b=1"),
            ("/a?b=1&SESSION=x=y", "/a?b=1&SESSION=[redacted]"),
            ("/a?%74oken=c", "/a?%74oken=[redacted]"),
            ("/a?token=&x", "/a?token=&x"),
            ("/a?b?token=1", "/a?b?token=1"),
            ("/a?%zz=1&token=2", "/a?%zz=1&token=[redacted]"),
        ] {
            assert_eq!(redaction.target(target), shown);
        }
        assert_eq!(redaction.header("Authorization", "x"), "[redacted]");
        assert_eq!(redaction.header("X-Internal", "x"), "[redacted]");
        assert_eq!(redaction.header("accept", "x"), "x");
    }
}
