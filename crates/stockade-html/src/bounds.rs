//! What a guest can make a rewriter hold or compute.

/// Bytes of one selector.
pub const MAX_SELECTOR_BYTES: usize = 2048;

/// Opening parentheses of one selector: the selectors' parser calls itself for what is in them.
pub const MAX_SELECTOR_PARENTHESES: usize = 16;

/// Handler objects of one rewriter.
pub const MAX_HANDLERS: usize = 1000;

/// Bytes of all selectors of one rewriter.
pub const MAX_SELECTORS_BYTES: usize = 64 << 10;

/// Bytes that one of the two parsers may hold: open elements and a token that is not complete.
pub const MAX_PARSER_BYTES: usize = 3 << 20;

/// Bytes of a document that are read at once. The engine cannot interrupt a parser, and the calls of handlers for this
/// many bytes are recorded before they are made.
pub const MAX_PIECE_BYTES: usize = 16 << 10;
