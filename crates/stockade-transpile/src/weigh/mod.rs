//! Measures a source before it is parsed: the stack and the time that the compiler will need for it.
//!
//! The compiler is a recursive-descent parser and a few recursive walks, without limits of their own;
//! it also parses some places twice, once as types or parameters and once more as something else, and
//! where such places are nested, the times multiply. Nothing can interrupt it. So it is given no source
//! that it could choke on, which takes an upper bound of both quantities from the text alone:
//!
//! - [`Weight::levels`]: how deep the recursion may go. Every level of it has consumed a token of its
//!   own, so inside a pair of brackets the depth is at most that outside, plus the tokens that stand
//!   before it and belong to the same statement or list item, plus a constant for the bracket.
//! - work: the tokens, each multiplied by how often it may be parsed.
//!
//! Invariants:
//! 1. The bound holds for any text. Where the text could be read in two ways (`/` as a division or a
//!    regular expression, a bracket that does not match, JSX text), from there on nothing closes any
//!    more and everything opens: `brackets.rs` calls that blind.
//! 2. The measure itself takes one pass, no recursion, and memory for open brackets only.
//!
//! What this does not: find errors, or judge how deep a source really nests. Sources that people write
//! stay far below the limits.

mod brackets;
mod literals;
mod scan;

use std::fmt;

/// Recursion deeper than this many levels is refused.
///
/// A level is a token in the statement or list item at hand, and in each one that encloses it; a
/// bracket counts four. That is 5,000 nested brackets, or 20,000 prefix operators.
pub const MAX_LEVELS: usize = 20_000;

/// Parsing more tokens than this, repetitions included, is refused: a few seconds.
pub const MAX_WORK: u64 = 32_000_000;

/// Levels for a bracket, besides the one for its token.
pub(crate) const BRACKET_LEVELS: usize = 3;

/// Stack for a level, in bytes: at least twice what any construct was seen to use.
///
/// The test `stack_of_every_shape_stays_below_half_of_what_it_gets` measures it. Unoptimised code, and
/// code under a sanitizer, has larger frames.
pub(crate) const BYTES_PER_LEVEL: usize = if cfg!(debug_assertions) {
    16 * 1024
} else {
    1280
};

/// What a source will need at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Weight {
    /// Depth of the recursion.
    pub(crate) levels: usize,
    /// Tokens to be parsed, repetitions included.
    pub(crate) work: u64,
}

/// A source that needs more than it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// Where the limit was passed.
    pub(crate) byte: usize,
    /// Which limit.
    pub(crate) limit: Limit,
    /// Where the text became ambiguous, if it did.
    pub(crate) blind_since: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    Levels,
    Work,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.limit {
            Limit::Levels => write!(f, "source nests deeper than {MAX_LEVELS} levels")?,
            Limit::Work => f.write_str("source is too ambiguous to be parsed in bounded time")?,
        }
        match self.blind_since {
            Some(byte) => write!(
                f,
                " (byte {byte} can be read in two ways; brackets after it were not matched)"
            ),
            None => Ok(()),
        }
    }
}

/// Measures a source.
///
/// # Errors
/// Where it passes a limit, if it does.
pub(crate) fn weigh(source: &str, jsx: bool) -> Result<Weight, Refused> {
    scan::scan(source, jsx)
}
