//! Why a source was refused, and where.

use std::fmt;

use crate::excerpt::excerpt;

/// A source that is not TypeScript, or more of it than may be compiled.
///
/// Displays as `SyntaxError: <message> at <specifier>:<line>:<column>` and the excerpt below it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct TranspileError {
    /// What is wrong, without position.
    pub message: String,
    /// The source's name as given in the options.
    pub specifier: String,
    /// Line of the error, from 1.
    pub line: u32,
    /// Column of the error, from 1, in UTF-16 code units, as V8 counts.
    pub column: u32,
    /// The line of the error and a caret under the column, made by [`excerpt`].
    pub excerpt: Option<String>,
}

impl fmt::Display for TranspileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            message,
            specifier,
            line,
            column,
            ..
        } = self;
        write!(f, "SyntaxError: {message} at {specifier}:{line}:{column}")?;
        match &self.excerpt {
            Some(excerpt) => write!(f, "\n{excerpt}"),
            None => Ok(()),
        }
    }
}

impl TranspileError {
    /// An error at a byte of the source.
    pub(crate) fn at_byte(source: &str, specifier: &str, byte: usize, message: String) -> Self {
        let (line, column) = position(source, byte);
        Self {
            message,
            specifier: specifier.to_owned(),
            line,
            column,
            excerpt: excerpt(source, line, column),
        }
    }

    /// An error that concerns the source as a whole.
    pub(crate) fn whole(specifier: &str, message: String) -> Self {
        Self {
            message,
            specifier: specifier.to_owned(),
            line: 1,
            column: 1,
            excerpt: None,
        }
    }
}

/// Line and column of a byte, from 1; a byte inside a character counts as that character's start.
fn position(source: &str, byte: usize) -> (u32, u32) {
    let mut end = byte.min(source.len());
    while !source.is_char_boundary(end) {
        end -= 1;
    }
    let before = source.get(..end).unwrap_or_default();
    let mut lines = crate::excerpt::lines(before);
    let (mut count, mut last) = (0u32, "");
    for line in &mut lines {
        count = count.saturating_add(1);
        last = line;
    }
    let column = last.chars().map(char::len_utf16).sum::<usize>();
    (
        count,
        u32::try_from(column).unwrap_or(u32::MAX).saturating_add(1),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_counts_lines_and_utf16_columns_from_one() {
        assert_eq!(position("", 0), (1, 1));
        assert_eq!(position("ab\ncd", 4), (2, 2));
        assert_eq!(position("ab\r\ncd", 4), (2, 1));
        assert_eq!(position("a\u{2028}b", 4), (2, 1));
        assert_eq!(position("😀x", 4), (1, 3));
        assert_eq!(position("😀x", 2), (1, 1));
        assert_eq!(position("x", 99), (1, 2));
    }
}
