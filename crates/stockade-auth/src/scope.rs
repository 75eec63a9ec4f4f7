//! What a key may do: scopes.
//!
//! `read`, `write` and `admin` are built in: `write` includes `read`, and `admin` includes both. All other scopes are
//! names that sites choose, and include nothing else. `shop/read` is the scope `read` of the instance `shop` alone.

use std::fmt;

/// Scopes of one key.
pub const MAX_SCOPES: usize = 32;

/// Bytes of the name of a scope.
const MAX_SCOPE_BYTES: usize = 64;

/// One scope as a key has it, maybe of one instance.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scope(String);

/// Why a text is not a scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    /// It has a character, a length or a form that scopes do not have.
    #[error(
        "{0:?} is not a scope: write lower case letters, digits, '.', ':', '_' and '-', beginning with a letter, at most {MAX_SCOPE_BYTES} characters; or the same behind an instance's name and a slash, as shop/read"
    )]
    Name(String),
    /// Too many.
    #[error("{0} scopes; the most of one key are {MAX_SCOPES}")]
    TooMany(usize),
}

/// Whether a text is the name of a scope, without an instance.
fn is_name(text: &str) -> bool {
    text.len() <= MAX_SCOPE_BYTES
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text
            .bytes()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || b".:_-".contains(&c))
}

impl Scope {
    /// Reads a scope as a key may have it: `read`, `orders:refund`, `shop/read`.
    ///
    /// # Errors
    /// [`ScopeError::Name`].
    pub fn parse(text: &str) -> Result<Self, ScopeError> {
        let (instance, name) = match text.split_once('/') {
            Some((instance, name)) => (Some(instance), name),
            None => (None, text),
        };
        if !is_name(name) || instance.is_some_and(|instance| !is_name(instance)) {
            return Err(ScopeError::Name(text.chars().take(100).collect()));
        }
        Ok(Self(text.to_owned()))
    }

    /// Reads a scope as a route may ask for it: without an instance.
    ///
    /// # Errors
    /// [`ScopeError::Name`].
    pub fn parse_required(text: &str) -> Result<Self, ScopeError> {
        if !is_name(text) {
            return Err(ScopeError::Name(text.chars().take(100).collect()));
        }
        Ok(Self(text.to_owned()))
    }

    /// The text of the scope.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The scopes of a key, as a text with spaces between them, sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scopes<'a>(pub(crate) &'a str);

impl<'a> Scopes<'a> {
    /// The text of scopes.
    ///
    /// # Errors
    /// [`ScopeError::TooMany`].
    pub fn text(scopes: &[Scope]) -> Result<String, ScopeError> {
        let mut names: Vec<&str> = scopes.iter().map(Scope::as_str).collect();
        names.sort_unstable();
        names.dedup();
        if names.len() > MAX_SCOPES {
            return Err(ScopeError::TooMany(names.len()));
        }
        Ok(names.join(" "))
    }

    /// The scopes one by one.
    pub fn iter(self) -> impl Iterator<Item = &'a str> {
        self.0.split(' ').filter(|scope| !scope.is_empty())
    }

    /// Whether they include `required` at an instance. Allocates nothing.
    #[must_use]
    pub fn include(self, required: &str, instance: &str) -> bool {
        self.iter().any(|held| {
            let held = match held.split_once('/') {
                Some((of, name)) if of == instance => name,
                Some(_) => return false,
                None => held,
            };
            held == required
                || matches!(
                    (held, required),
                    ("write", "read") | ("admin", "read" | "write")
                )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_include_what_they_say_and_no_more() {
        for (held, required, instance, included) in [
            ("read", "read", "shop", true),
            ("read", "write", "shop", false),
            ("write", "read", "shop", true),
            ("admin", "write", "shop", true),
            ("admin", "orders", "shop", false),
            ("shop/write", "read", "shop", true),
            ("shop/write", "read", "blog", false),
            ("shop/write", "read", "shopping", false),
            ("orders", "orders:refund", "shop", false),
            ("orders:refund", "orders", "shop", false),
            ("blog/admin read", "read", "shop", true),
            ("", "read", "shop", false),
            ("", "", "shop", false),
            ("read", "", "shop", false),
        ] {
            assert_eq!(
                Scopes(held).include(required, instance),
                included,
                "{held}: {required}"
            );
        }
    }

    #[test]
    fn scopes_have_one_form() {
        for text in ["read", "shop/read", "orders:refund", "a.b_c-d9"] {
            assert_eq!(Scope::parse(text).unwrap().as_str(), text);
        }
        for text in [
            "",
            "/",
            "shop/",
            "/read",
            "a/b/c",
            "Read",
            "re ad",
            "9a",
            "a\n",
            "é",
            "*",
            &"a".repeat(65),
        ] {
            assert!(Scope::parse(text).is_err(), "{text}");
        }
        assert!(Scope::parse_required("shop/read").is_err());
        let scopes = ["write", "read", "write"].map(|text| Scope::parse(text).unwrap());
        assert_eq!(Scopes::text(&scopes).unwrap(), "read write");
        let many: Vec<_> = (0..33)
            .map(|n| Scope::parse(&format!("s{n}")).unwrap())
            .collect();
        assert_eq!(Scopes::text(&many), Err(ScopeError::TooMany(33)));
    }
}
