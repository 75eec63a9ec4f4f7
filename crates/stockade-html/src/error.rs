//! Why HTML cannot be rewritten.

use lol_html::errors::{
    AttributeNameError, CommentTextError, RewritingError, SelectorError, TagNameError,
};
use thiserror::Error;

/// Why HTML cannot be rewritten. The texts are for the guest.
#[derive(Debug, Error)]
pub enum HtmlError {
    /// The selector is none, or one that the parser does not support.
    #[error("{0}")]
    Selector(#[from] SelectorError),
    /// A selector or the number of handlers is above a bound.
    #[error("{what} is above the limit of {limit}")]
    TooMuch {
        /// What there is too much of, with its amount.
        what: String,
        /// The bound, in the unit of `what`.
        limit: usize,
    },
    /// The document's `charset` has no meaning.
    #[error("Unknown character encoding has been provided.")]
    UnknownEncoding,
    /// The document's `charset` is one in which a tag is not written as in ASCII.
    #[error("Expected ASCII-compatible encoding.")]
    UnsupportedEncoding,
    /// The new name of a tag.
    #[error("{0}")]
    TagName(#[from] TagNameError),
    /// The name of a new attribute.
    #[error("{0}")]
    AttributeName(#[from] AttributeNameError),
    /// The new text of a comment.
    #[error("{0}")]
    CommentText(#[from] CommentTextError),
    /// The document is ambiguous, or needs more memory than the parser may have.
    #[error("{0}")]
    Rewriting(#[from] RewritingError),
    /// The rewriter is used after an error, after the document's end, or while handlers are to be called.
    #[error("the rewriter cannot be used now: {0}")]
    State(&'static str),
    /// What must not happen: the second parser came to something else than the first one.
    #[error("the document cannot be rewritten: its two readings differ")]
    Disagreement,
}
