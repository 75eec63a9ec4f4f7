//! Preconditions of requests (RFC 9110, section 13).

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue};

use super::find::OpenFile;

/// A file that changed so short a time ago could change again within the resolution of its time.
const UNSETTLED: Duration = Duration::from_secs(2);

/// What names one version of a file in one form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Validators {
    pub(super) tag: Tag,
    /// In whole seconds.
    pub(super) modified: Option<SystemTime>,
}

/// An entity tag (RFC 9110, section 8.8.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tag {
    weak: bool,
    opaque: String,
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}\"{}\"",
            if self.weak { "W/" } else { "" },
            self.opaque
        )
    }
}

/// What the preconditions of a request come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Precondition {
    Met,
    NotModified,
    Failed,
}

impl Validators {
    pub(super) fn of(opened: &OpenFile) -> Self {
        let nanos = opened
            .modified
            .and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let coding = opened.coding.map_or("", |coding| coding.suffix());
        let opaque = format!(
            "{:x}-{:x}-{:x}{coding}",
            opened.inode,
            opened.length,
            nanos.map_or(0, |nanos| nanos.as_nanos())
        );
        let settled = opened
            .modified
            .and_then(|at| SystemTime::now().duration_since(at).ok())
            .is_some_and(|age| age >= UNSETTLED);
        Self {
            tag: Tag {
                weak: !settled,
                opaque,
            },
            modified: nanos.map(|nanos| UNIX_EPOCH + Duration::from_secs(nanos.as_secs())),
        }
    }
}

/// Evaluates the preconditions in the order of RFC 9110, section 13.2.2. The method is GET or HEAD.
pub(super) fn check(headers: &HeaderMap, validators: &Validators) -> Precondition {
    if headers.contains_key(header::IF_MATCH) {
        if !any_tag(headers, &header::IF_MATCH, |tag| {
            strong(tag, &validators.tag)
        }) {
            return Precondition::Failed;
        }
    } else if let (Some(date), Some(modified)) = (
        date(headers, &header::IF_UNMODIFIED_SINCE),
        validators.modified,
    ) && modified > date
    {
        return Precondition::Failed;
    }
    if headers.contains_key(header::IF_NONE_MATCH) {
        if any_tag(headers, &header::IF_NONE_MATCH, |tag| {
            tag.opaque == validators.tag.opaque
        }) {
            return Precondition::NotModified;
        }
    } else if let (Some(date), Some(modified)) = (
        date(headers, &header::IF_MODIFIED_SINCE),
        validators.modified,
    ) && modified <= date
    {
        return Precondition::NotModified;
    }
    Precondition::Met
}

/// Whether a part may be sent: without `if-range`, or if that names this version.
pub(super) fn range_holds(headers: &HeaderMap, validators: &Validators) -> bool {
    let Some(value) = headers.get(header::IF_RANGE) else {
        return true;
    };
    let Ok(text) = value.to_str() else {
        return false;
    };
    match tags(text).as_deref() {
        Some([tag]) => strong(tag, &validators.tag),
        Some(_) => false,
        // A date is as good as a strong tag only if the file has settled since.
        None => {
            !validators.tag.weak
                && httpdate::parse_http_date(text).ok() == validators.modified
                && validators.modified.is_some()
        }
    }
}

fn strong(one: &Tag, other: &Tag) -> bool {
    !one.weak && !other.weak && one.opaque == other.opaque
}

/// Whether one of the tags fits, or the field is `*`: a file that can be asked for exists.
fn any_tag(headers: &HeaderMap, name: &HeaderName, fits: impl Fn(&Tag) -> bool) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|text| text.trim() == "*" || tags(text).is_some_and(|tags| tags.iter().any(&fits)))
}

/// A list of tags; none if it is something else.
fn tags(text: &str) -> Option<Vec<Tag>> {
    let mut rest = text.trim();
    let mut tags = Vec::new();
    loop {
        let (weak, after) = match rest.strip_prefix("W/") {
            Some(after) => (true, after),
            None => (false, rest),
        };
        let (opaque, after) = after.strip_prefix('"')?.split_once('"')?;
        tags.push(Tag {
            weak,
            opaque: opaque.to_owned(),
        });
        rest = after.trim_start();
        if rest.is_empty() {
            return Some(tags);
        }
        rest = rest.strip_prefix(',')?.trim_start();
    }
}

fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    let text = headers.get(name).map(HeaderValue::to_str)?.ok()?;
    httpdate::parse_http_date(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn validators(weak: bool) -> Validators {
        Validators {
            tag: Tag {
                weak,
                opaque: "a".to_owned(),
            },
            modified: Some(UNIX_EPOCH + Duration::from_secs(784_111_777)),
        }
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    const AT: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";

    #[test]
    fn preconditions_are_evaluated_in_their_order() {
        let check = |lines: &[(&'static str, &str)], expected| {
            assert_eq!(
                super::check(&headers(lines), &validators(false)),
                expected,
                "{lines:?}"
            );
        };
        check(&[], Precondition::Met);
        check(&[("if-none-match", "\"a\"")], Precondition::NotModified);
        check(
            &[("if-none-match", "\"b\", W/\"a\"")],
            Precondition::NotModified,
        );
        check(&[("if-none-match", "*")], Precondition::NotModified);
        check(&[("if-none-match", "\"b\"")], Precondition::Met);
        check(
            &[("if-none-match", "\"b\""), ("if-modified-since", AT)],
            Precondition::Met,
        );
        check(&[("if-none-match", "nonsense")], Precondition::Met);
        check(&[("if-modified-since", AT)], Precondition::NotModified);
        check(&[("if-modified-since", BEFORE)], Precondition::Met);
        check(&[("if-modified-since", "yesterday")], Precondition::Met);
        check(&[("if-match", "\"a\"")], Precondition::Met);
        check(&[("if-match", "*")], Precondition::Met);
        check(&[("if-match", "W/\"a\"")], Precondition::Failed);
        check(&[("if-match", "\"b\"")], Precondition::Failed);
        check(&[("if-unmodified-since", AT)], Precondition::Met);
        check(&[("if-unmodified-since", BEFORE)], Precondition::Failed);
    }

    #[test]
    fn part_is_sent_only_of_the_version_that_is_meant() {
        let check = |value: Option<&str>, weak, expected| {
            let lines: Vec<_> = value.iter().map(|value| ("if-range", *value)).collect();
            assert_eq!(
                range_holds(&headers(&lines), &validators(weak)),
                expected,
                "{value:?}"
            );
        };
        check(None, true, true);
        check(Some("\"a\""), false, true);
        check(Some("\"a\""), true, false);
        check(Some("W/\"a\""), false, false);
        check(Some("\"b\""), false, false);
        check(Some(AT), false, true);
        check(Some(AT), true, false);
        check(Some(BEFORE), false, false);
        check(Some("nonsense"), false, false);
    }
}
