//! The bulk of a frame that has arrived as a whole.

use super::FrameError;
use crate::text::harmless;

/// Hands out the pieces in their order.
pub enum Bulk<'a> {
    /// All of it lies in the reader's buffer.
    Buffered(&'a [u8]),
    /// Each piece has memory of its own already.
    Gathered(std::vec::IntoIter<Vec<u8>>),
}

impl Bulk<'_> {
    pub(super) fn bytes(&mut self, what: &'static str, size: usize) -> Result<Vec<u8>, FrameError> {
        match self {
            Self::Buffered(rest) => rest.split_off(..size).map(<[u8]>::to_vec),
            Self::Gathered(pieces) => pieces.next().filter(|piece| piece.len() == size),
        }
        .ok_or(FrameError::Missing(what))
    }

    pub(super) fn text(&mut self, what: &'static str, size: usize) -> Result<String, FrameError> {
        String::from_utf8(self.bytes(what, size)?).map_err(|_| FrameError::NotUtf8(what))
    }

    /// Text for a terminal or a log, whatever a worker may have made of it.
    pub(super) fn harmless(
        &mut self,
        what: &'static str,
        size: usize,
        max: usize,
    ) -> Result<String, FrameError> {
        Ok(harmless(&self.text(what, size)?, max))
    }
}
