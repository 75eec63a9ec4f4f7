//! Ranges of keys, and pages of them.

use crate::key::MAX_KEY_BYTES;
use crate::value::Version;

/// Most keys of one page.
pub const MAX_LIST: usize = 1000;

/// Which keys to list. The default is all of them in ascending order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    /// Only keys that begin so; empty: all.
    pub prefix: String,
    /// Only keys from here on, itself included.
    pub start: Option<String>,
    /// Only keys before this one.
    pub end: Option<String>,
    /// Most keys of the page, 1 to [`MAX_LIST`].
    pub limit: usize,
    /// [`Page::cursor`] of the page before.
    pub cursor: Option<String>,
    /// In descending order.
    pub reverse: bool,
}

impl Default for List {
    fn default() -> Self {
        Self {
            prefix: String::new(),
            start: None,
            end: None,
            limit: MAX_LIST,
            cursor: None,
            reverse: false,
        }
    }
}

/// A query that cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// Outside 1 to [`MAX_LIST`].
    #[error("a page has 1 to {MAX_LIST} keys, not {0}")]
    Limit(usize),
    /// A bound that is longer than any key.
    #[error("`{0}` is longer than a key may be: at most {MAX_KEY_BYTES} bytes are allowed")]
    TooLong(&'static str),
}

/// One key of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInfo {
    /// The key.
    pub key: String,
    /// The commit that wrote its value.
    pub version: Version,
    /// When it becomes absent, in milliseconds since 1970-01-01 UTC.
    pub expires_ms: Option<i64>,
    /// Size of its value in bytes.
    pub size: u64,
}

/// A page of keys, all as of one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The keys, in the order asked for.
    pub keys: Vec<KeyInfo>,
    /// Where the next page begins; `None`: there are no more.
    pub cursor: Option<String>,
    /// The keyspace's version at that instant: a watch from here misses nothing.
    pub version: Version,
}

/// Bounds in bytes: from `low` (included) to `high` (excluded, `None`: no end).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) low: Vec<u8>,
    pub(crate) high: Option<Vec<u8>>,
}

impl List {
    /// Checks the query.
    ///
    /// # Errors
    /// When no page can answer it.
    pub fn check(&self) -> Result<(), ListError> {
        self.range().map(drop)
    }

    /// Checks the query and works out its bounds.
    pub(crate) fn range(&self) -> Result<Range, ListError> {
        if self.limit == 0 || self.limit > MAX_LIST {
            return Err(ListError::Limit(self.limit));
        }
        let bounds = [
            ("prefix", Some(&self.prefix)),
            ("start", self.start.as_ref()),
            ("end", self.end.as_ref()),
            ("cursor", self.cursor.as_ref()),
        ];
        for (name, text) in bounds {
            if text.is_some_and(|text| text.len() > MAX_KEY_BYTES) {
                return Err(ListError::TooLong(name));
            }
        }
        let mut low = self.prefix.as_bytes().to_vec();
        let mut high = after_prefix(self.prefix.as_bytes());
        if let Some(start) = &self.start {
            low = low.max(start.as_bytes().to_vec());
        }
        if let Some(end) = &self.end {
            lower(&mut high, end.as_bytes().to_vec());
        }
        if let Some(cursor) = &self.cursor {
            let cursor = cursor.as_bytes().to_vec();
            if self.reverse {
                lower(&mut high, cursor);
            } else {
                // The least byte string above the cursor.
                let mut next = cursor;
                next.push(0);
                low = low.max(next);
            }
        }
        Ok(Range { low, high })
    }
}

fn lower(high: &mut Option<Vec<u8>>, to: Vec<u8>) {
    *high = Some(match high.take() {
        Some(high) => high.min(to),
        None => to,
    });
}

/// The least byte string that is above all that begin with `prefix`; `None`: there is none.
fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut after = prefix.to_vec();
    while let Some(last) = after.pop() {
        if last < u8::MAX {
            after.push(last + 1);
            return Some(after);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_of_prefix_ends_after_it() {
        assert_eq!(after_prefix(b"a"), Some(b"b".to_vec()));
        assert_eq!(after_prefix(&[0x61, 0xff]), Some(b"b".to_vec()));
        assert_eq!(after_prefix(&[0xff, 0xff]), None);
        assert_eq!(after_prefix(b""), None);
    }

    #[test]
    fn range_takes_the_narrowest_bounds() {
        let list = List {
            prefix: "u/".into(),
            start: Some("u/b".into()),
            end: Some("z".into()),
            ..List::default()
        };
        let range = list.range().unwrap();
        assert_eq!(range.low, b"u/b");
        assert_eq!(range.high.unwrap(), b"u0");
    }

    #[test]
    fn range_after_cursor_excludes_it() {
        let ahead = List {
            cursor: Some("k".into()),
            ..List::default()
        };
        assert_eq!(ahead.range().unwrap().low, b"k\0");
        let back = List {
            cursor: Some("k".into()),
            reverse: true,
            ..List::default()
        };
        assert_eq!(back.range().unwrap().high.unwrap(), b"k");
    }

    #[test]
    fn range_with_hostile_numbers_is_refused() {
        for limit in [0, MAX_LIST + 1, usize::MAX] {
            let list = List {
                limit,
                ..List::default()
            };
            assert_eq!(list.range(), Err(ListError::Limit(limit)));
        }
        let list = List {
            cursor: Some("x".repeat(MAX_KEY_BYTES + 1)),
            ..List::default()
        };
        assert_eq!(list.range(), Err(ListError::TooLong("cursor")));
    }
}
