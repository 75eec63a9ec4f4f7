//! What is wrong with a frame.

use std::io;

/// A frame that breaks the rules. Inside an [`io::Error`] of kind [`io::ErrorKind::InvalidData`] where
/// [`Reader`](super::Reader) found it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Something is larger than anything legal.
    #[error("{what} of {size} is above the limit of {limit}")]
    TooLarge {
        /// What.
        what: &'static str,
        /// In bytes; of parts, how many there are.
        size: usize,
        /// The largest that is taken.
        limit: usize,
    },
    /// The header is no header of this kind of frame.
    #[error("the header of a frame cannot be read: {0}")]
    Header(postcard::Error),
    /// The header goes on after its end.
    #[error("the header of a frame has {0} bytes too many")]
    Rest(usize),
    /// A text that is not UTF-8.
    #[error("{0} is not UTF-8")]
    NotUtf8(&'static str),
    /// Binary parts in data that does not mention them.
    #[error("data without marks has binary parts")]
    Unmarked,
    /// A console line of no known level.
    #[error("there is no console level {0}")]
    Level(u8),
    /// An error in a list of related ones that belongs to none before it, or is too far from the first.
    #[error("a related error at depth {0} belongs to none")]
    Depth(u8),
    /// The bulk is shorter than the header says; not from any sender.
    #[error("{0} is missing")]
    Missing(&'static str),
}

impl From<FrameError> for io::Error {
    fn from(error: FrameError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}
