//! Rewrites HTML by handlers that may take their time, for the `HTMLRewriter` of sites.
//!
//! `lol_html` parses, matches selectors and writes. It calls a handler while it parses, and wants the handler's changes when
//! the handler returns. A guest's handler may wait for a promise, so a [`Rewriter`] gives each piece of a document to two
//! parsers: the first one only records which handlers are to be called with which [`Token`], and the second one runs when all
//! handlers of the piece are done, and makes their changes.
//!
//! **Invariant:** both parsers get the same bytes in the same pieces, and their matches do not depend on changes. Each call of
//! the second one therefore corresponds to one call of the first one; where it does not, rewriting fails.
//! **Invariant:** nothing is suspended in the middle of a parse, so a rewriter can be dropped at any time.
//! **Invariant:** selectors and what the parsers buffer are bounded ([`bounds`]).
//! **Absent:** scripts, promises and streams; the classes that a guest sees.

mod apply;
pub mod bounds;
mod change;
mod error;
mod handlers;
mod record;
mod rewriter;
mod token;

pub use change::Change;
pub use error::HtmlError;
pub use handlers::{Handlers, check_selector};
pub use rewriter::Rewriter;
pub use token::{Token, Visit};
