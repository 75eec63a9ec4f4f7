//! A guest's path, checked: names inside the granted folder, and no way to say anything else.

/// Bytes of a whole path.
const MOST_PATH_BYTES: usize = 1024;
/// Bytes of one name; file systems take 255, and a temporary name needs some.
const MOST_NAME_BYTES: usize = 200;
/// Names of a path.
pub(crate) const MOST_PATH_NAMES: usize = 32;
/// Names that begin so are the broker's own, for files that are being written.
const OWN_PREFIX: &str = ".stockade-";
/// The names of files that are being written.
pub(crate) const DRAFT_PREFIX: &str = ".stockade-write-";

/// A checked path. Empty for the granted folder itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GuestPath(String);

impl GuestPath {
    /// Reads `a/b/c`, or `/a/b/c`, which is the same. `.`, `..`, empty names, control characters and
    /// backslashes are refused, and what is too long or too deep.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix('/').unwrap_or(text);
        if text.is_empty() {
            return Some(Self(String::new()));
        }
        let is_fit = text.len() <= MOST_PATH_BYTES
            && text.split('/').count() <= MOST_PATH_NAMES
            && text.split('/').all(is_name);
        is_fit.then(|| Self(text.to_owned()))
    }

    /// The path as it is looked up.
    pub(crate) fn as_str(&self) -> &str {
        if self.0.is_empty() { "." } else { &self.0 }
    }

    /// The folder that it lies in, and its name there; `None` for the granted folder.
    pub(crate) fn split(&self) -> Option<(&str, &str)> {
        match self.0.rsplit_once('/') {
            Some((parent, name)) => Some((parent, name)),
            None if self.0.is_empty() => None,
            None => Some((".", &self.0)),
        }
    }

    /// How many names it has.
    pub(crate) fn depth(&self) -> usize {
        self.0.split('/').filter(|name| !name.is_empty()).count()
    }

    /// The folders on the way, outermost first.
    pub(crate) fn ancestors(&self) -> impl Iterator<Item = &str> {
        self.0.match_indices('/').map(|(at, _)| &self.0[..at])
    }
}

/// Whether a guest may name a file so.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MOST_NAME_BYTES
        && name != "."
        && name != ".."
        && !name.starts_with(OWN_PREFIX)
        && !name
            .chars()
            .any(|c| c.is_control() || c == '\\' || c == '/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_of_plain_names_is_taken() {
        for text in ["a", "a/b.txt", "/a/b", ".hidden", "ä/ö ü", "a..b", "..."] {
            assert!(GuestPath::parse(text).is_some(), "{text}");
        }
        assert_eq!(GuestPath::parse(""), GuestPath::parse("/"));
        assert_eq!(GuestPath::parse("/a/b").unwrap().split(), Some(("a", "b")));
        let path = GuestPath::parse("a/b/c").unwrap();
        assert_eq!(path.ancestors().collect::<Vec<_>>(), ["a", "a/b"]);
    }

    #[test]
    fn path_that_could_lead_elsewhere_is_refused() {
        let long = "a/".repeat(40) + "a";
        let wide = "n".repeat(201);
        for text in [
            "..",
            "../a",
            "a/..",
            "a/../b",
            ".",
            "a/./b",
            "a//b",
            "//a",
            "a/",
            "a\0b",
            "a\nb",
            "a\\b",
            ".stockade-x",
            "a/.stockade-write-1",
            &long,
            &wide,
        ] {
            assert_eq!(GuestPath::parse(text), None, "{text:?}");
        }
    }
}
