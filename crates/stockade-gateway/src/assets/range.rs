//! Parts of files (RFC 9110, section 14).

use http::HeaderMap;
use http::header;

/// A part of a file in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) start: u64,
    pub(super) length: u64,
}

/// The file has no such part.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unsatisfiable;

impl Part {
    pub(super) fn content_range(self, whole: u64) -> String {
        let last = (self.start + self.length).saturating_sub(1);
        format!("bytes {}-{last}/{whole}", self.start)
    }
}

/// The part that is asked for; `None` if the whole file is to be sent: for a malformed header, and for several
/// ranges at once, which cost the server much and are used by few.
pub(super) fn read(headers: &HeaderMap, length: u64) -> Option<Result<Part, Unsatisfiable>> {
    let mut values = headers.get_all(header::RANGE).iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() || value.contains(',') {
        return None;
    }
    let (first, last) = value.strip_prefix("bytes=")?.trim().split_once('-')?;
    let (start, end) = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => (first, last.saturating_add(1).min(length)),
        (Some(first), None) if last.is_empty() => (first, length),
        (None, Some(suffix)) if first.is_empty() => (length.saturating_sub(suffix), length),
        _ => return None,
    };
    if start >= end {
        return Some(Err(Unsatisfiable));
    }
    Some(Ok(Part {
        start,
        length: end - start,
    }))
}

/// Digits and nothing else; a number that is too large for a file is as good as the largest.
fn number(digits: &str) -> Option<u64> {
    let valid = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    valid.then(|| digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_value(value: &str, length: u64) -> Option<Result<(u64, u64), Unsatisfiable>> {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, value.parse().unwrap());
        read(&headers, length).map(|part| part.map(|part| (part.start, part.length)))
    }

    #[test]
    fn range_is_a_part_of_the_file() {
        assert_eq!(read_value("bytes=0-4", 10), Some(Ok((0, 5))));
        assert_eq!(read_value("bytes=5-", 10), Some(Ok((5, 5))));
        assert_eq!(read_value("bytes=-3", 10), Some(Ok((7, 3))));
        assert_eq!(read_value("bytes=8-99", 10), Some(Ok((8, 2))));
        assert_eq!(read_value("bytes=-99", 10), Some(Ok((0, 10))));
        assert_eq!(
            read_value("bytes=0-99999999999999999999999", 10),
            Some(Ok((0, 10)))
        );
        let part = Part {
            start: 8,
            length: 2,
        };
        assert_eq!(part.content_range(10), "bytes 8-9/10");
    }

    #[test]
    fn range_that_is_none_gives_the_whole_file() {
        for value in [
            "bytes=0-1,3-4",
            "bits=0-1",
            "bytes",
            "bytes=a-b",
            "bytes=--1",
            "bytes=-",
            "bytes=3-1",
        ] {
            assert_eq!(read_value(value, 10), None, "{value}");
        }
    }

    #[test]
    fn range_beyond_the_end_cannot_be_satisfied() {
        for (value, length) in [
            ("bytes=10-", 10),
            ("bytes=10-12", 10),
            ("bytes=0-", 0),
            ("bytes=-0", 10),
        ] {
            assert_eq!(
                read_value(value, length),
                Some(Err(Unsatisfiable)),
                "{value}"
            );
        }
    }
}
