//! The one form in which paths are compared, shared by the configuration, routes, targets and logs.
//!
//! The form is a fixed point of the URL parser that guests use (WHATWG URL): `new URL(…).pathname` gives it
//! back unchanged. So a handler never sees another path than the one that was routed.

use std::fmt::Write as _;

/// What becomes of an encoded slash (`%2F`) or backslash (`%5C`) in a path, which servers read in
/// different ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum EncodedSlashes {
    /// The request is refused with 400.
    #[default]
    Reject,
    /// It stays encoded, a character like any other.
    Keep,
    /// It becomes a slash, after which the path is normalised again; if another route matches that path
    /// the request is refused. An encoded backslash is refused.
    Decode,
}

/// What becomes of empty path segments: `//`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Slashes {
    /// Several slashes are one.
    #[default]
    Merge,
    /// Encoded slashes stay.
    Keep,
}

/// A path in its one form. Begins with `/`; has no `.` or `..` segments; escapes are in upper case and
/// only where they are needed; no control characters, neither plain nor escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NormalPath {
    text: String,
    /// It has `%2F` or `%5C` in it.
    encoded_slash: bool,
}

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// No slash stands at the beginning.
    #[error("the path does not begin with a slash")]
    NoSlash,
    /// A `%` begins no escape.
    #[error("the path has a % that is not followed by two hexadecimal digits")]
    Escape,
    /// A control character, plain or escaped.
    #[error("the path has a control character")]
    Control,
    /// A backslash, which browsers read as a slash.
    #[error("the path has a backslash")]
    Backslash,
    /// Too many `..`.
    #[error("the path leads above the root")]
    AboveRoot,
    /// `%2F` or `%5C` where the route refuses them.
    #[error("the path has an encoded slash, which this site does not take")]
    EncodedSlash,
    /// `?` or `#`, which end a path.
    #[error("the path has a character that must be escaped")]
    Character,
}

impl NormalPath {
    /// Brings the path of a request into its one form.
    ///
    /// # Errors
    ///
    /// [`PathError`] if the path has no form that every reader agrees on.
    pub fn parse(raw: &str, slashes: Slashes) -> Result<Self, PathError> {
        if !raw.starts_with('/') {
            return Err(PathError::NoSlash);
        }
        if is_plain(raw.as_bytes()) {
            return Ok(Self {
                text: raw.to_owned(),
                encoded_slash: false,
            });
        }
        let (text, encoded_slash) = unescape(raw.as_bytes())?;
        Ok(Self {
            text: resolve(&text, slashes)?,
            encoded_slash,
        })
    }

    /// The path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Applies a route's rule for encoded slashes; returns `true` if the path has changed.
    ///
    /// # Errors
    ///
    /// [`PathError`] if the rule refuses the path.
    pub fn apply(&mut self, rule: EncodedSlashes, slashes: Slashes) -> Result<bool, PathError> {
        if !self.encoded_slash {
            return Ok(false);
        }
        match rule {
            EncodedSlashes::Keep => Ok(false),
            EncodedSlashes::Reject => Err(PathError::EncodedSlash),
            EncodedSlashes::Decode if self.text.contains("%5C") => Err(PathError::Backslash),
            EncodedSlashes::Decode => {
                self.text = resolve(&self.text.replace("%2F", "/"), slashes)?;
                self.encoded_slash = false;
                Ok(true)
            }
        }
    }
}

/// Most paths are in their one form already: unreserved characters, and slashes that are followed by
/// something other than a slash or a dot.
fn is_plain(raw: &[u8]) -> bool {
    let mut before = 0;
    for &byte in raw {
        let fits = match byte {
            b'/' | b'.' => before != b'/',
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => true,
            _ => false,
        };
        if !fits {
            return false;
        }
        before = byte;
    }
    true
}

/// Brings the escapes of a path into their one form. Segments stay as they are, `.` and `..` among them.
///
/// # Errors
///
/// [`PathError`] if an escape or a character can stand in no path.
pub fn normalize_escapes(path: &str) -> Result<String, PathError> {
    unescape(path.as_bytes()).map(|(text, _)| text)
}

/// Decodes escapes of unreserved characters (RFC 3986, section 2.3) and writes all others in upper case;
/// escapes what the URL parser of guests would escape.
fn unescape(raw: &[u8]) -> Result<(String, bool), PathError> {
    let mut text = String::with_capacity(raw.len() + 16);
    let mut encoded_slash = false;
    let mut bytes = raw.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let high = bytes.next().and_then(hexadecimal);
                let low = bytes.next().and_then(hexadecimal);
                let (Some(high), Some(low)) = (high, low) else {
                    return Err(PathError::Escape);
                };
                let decoded = high << 4 | low;
                match decoded {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' | b'.' => {
                        text.push(char::from(decoded));
                    }
                    0..0x20 | 0x7f => return Err(PathError::Control),
                    _ => {
                        encoded_slash |= matches!(decoded, b'/' | b'\\');
                        escape(&mut text, decoded);
                    }
                }
            }
            0..0x20 | 0x7f => return Err(PathError::Control),
            b'\\' => return Err(PathError::Backslash),
            b'?' | b'#' => return Err(PathError::Character),
            // The path percent-encode set of the WHATWG URL standard.
            b' ' | b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'}' | 0x80.. => {
                escape(&mut text, byte);
            }
            _ => text.push(char::from(byte)),
        }
    }
    Ok((text, encoded_slash))
}

fn hexadecimal(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

fn escape(text: &mut String, byte: u8) {
    // Writing to a string can't fail.
    let _ = write!(text, "%{byte:02X}");
}

/// Removes dot segments (RFC 3986, section 5.2.4) and, if so wished, empty segments.
fn resolve(text: &str, slashes: Slashes) -> Result<String, PathError> {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = text.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop().ok_or(PathError::AboveRoot)?;
                }
                if last {
                    kept.push("");
                }
            }
            "" if slashes == Slashes::Merge && !last => {}
            _ => kept.push(segment),
        }
    }
    let mut path = String::with_capacity(text.len());
    for segment in &kept {
        path.push('/');
        path.push_str(segment);
    }
    if path.is_empty() {
        path.push('/');
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(raw: &str) -> Result<String, PathError> {
        NormalPath::parse(raw, Slashes::Merge).map(|path| path.text)
    }

    #[test]
    fn path_in_its_form_stays() {
        for path in [
            "/",
            "/a",
            "/a/",
            "/a/b.c/d-e_f~g",
            "/a/%2F",
            "/@:!$&'()*+,;=|[]",
            "/a..b/..c",
        ] {
            assert_eq!(normal(path).as_deref(), Ok(path));
        }
    }

    #[test]
    fn path_in_another_form_is_brought_into_the_one() {
        let check =
            |raw: &str, expected: &str| assert_eq!(normal(raw).as_deref(), Ok(expected), "{raw}");
        check("/%61%2d%7E", "/a-~");
        check("/%c3%a9", "/%C3%A9");
        check("/é", "/%C3%A9");
        check("/a b\"<>`{}^", "/a%20b%22%3C%3E%60%7B%7D%5E");
        check("/a/./b", "/a/b");
        check("/a/../b", "/b");
        check("/a/..", "/");
        check("/a/b/..", "/a/");
        check("/a/.", "/a/");
        check("/.", "/");
        check("/a/%2e%2E/b", "/b");
        check("/a/.%2e/b", "/b");
        check("//a///b", "/a/b");
        check("/a//", "/a/");
        check("/a//../b", "/b");
        check("/%25%32%66", "/%252f");
        check("/a/%2e%2e%2fb", "/a/..%2Fb");
    }

    #[test]
    fn path_that_can_be_read_in_two_ways_is_refused() {
        let check = |raw: &str, error| assert_eq!(normal(raw), Err(error), "{raw:?}");
        check("", PathError::NoSlash);
        check("*", PathError::NoSlash);
        check("a/b", PathError::NoSlash);
        check("/%", PathError::Escape);
        check("/%4", PathError::Escape);
        check("/%zz", PathError::Escape);
        check("/%+1", PathError::Escape);
        check("/%u0041", PathError::Escape);
        check("/%00", PathError::Control);
        check("/%0d%0a", PathError::Control);
        check("/%7f", PathError::Control);
        check("/a\u{7f}", PathError::Control);
        check("/a\\b", PathError::Backslash);
        check("/..", PathError::AboveRoot);
        check("/a/../../b", PathError::AboveRoot);
        check("/%2e%2e/etc/passwd", PathError::AboveRoot);
        check("//..", PathError::AboveRoot);
        check("/a#b", PathError::Character);
    }

    #[test]
    fn path_with_empty_segments_kept_stays() {
        let path = NormalPath::parse("/a//b/.//c", Slashes::Keep).map(|path| path.text);
        assert_eq!(path.as_deref(), Ok("/a//b//c"));
    }

    #[test]
    fn encoded_slash_follows_the_rule_of_its_route() {
        let apply = |raw: &str, rule| {
            let mut path = NormalPath::parse(raw, Slashes::Merge)?;
            let changed = path.apply(rule, Slashes::Merge)?;
            Ok((path.text, changed))
        };
        let same = |text: &str| Ok((text.to_owned(), false));
        assert_eq!(apply("/a/b", EncodedSlashes::Reject), same("/a/b"));
        assert_eq!(
            apply("/a%2fb", EncodedSlashes::Reject),
            Err(PathError::EncodedSlash)
        );
        assert_eq!(
            apply("/a%5cb", EncodedSlashes::Reject),
            Err(PathError::EncodedSlash)
        );
        assert_eq!(apply("/a%2fb", EncodedSlashes::Keep), same("/a%2Fb"));
        assert_eq!(
            apply("/a/x%2f..%2Fb", EncodedSlashes::Decode),
            Ok(("/a/b".to_owned(), true))
        );
        assert_eq!(
            apply("/..%2f", EncodedSlashes::Decode),
            Err(PathError::AboveRoot)
        );
        assert_eq!(
            apply("/a%5c..", EncodedSlashes::Decode),
            Err(PathError::Backslash)
        );
    }

    #[test]
    fn path_brought_into_its_form_twice_is_the_same() {
        // Every text of up to five of these pieces.
        let pieces = ["/", ".", "%2e", "%2F", "a", "%25", "é", "{", "//"];
        let mut texts = vec![String::from("/")];
        for _ in 0..5 {
            let longer: Vec<String> = texts
                .iter()
                .flat_map(|text| pieces.iter().map(move |piece| format!("{text}{piece}")))
                .collect();
            for text in &longer {
                for slashes in [Slashes::Merge, Slashes::Keep] {
                    if let Ok(once) = NormalPath::parse(text, slashes) {
                        let twice = NormalPath::parse(&once.text, slashes).map(|path| path.text);
                        assert_eq!(twice, Ok(once.text), "{text}");
                    }
                }
            }
            texts = longer;
            texts.truncate(4000);
        }
    }
}
