//! Lines of a client, within the bytes that clients share.

use std::sync::Arc;

use bytes::BytesMut;
use tokio_util::codec::{Decoder, LinesCodec, LinesCodecError};

use super::shares::{Exhausted, Part, Peer, Share};

/// Bytes of a line of a client.
pub(super) const MAX_LINE_BYTES: usize = 16 << 20;

/// Bytes of a line without an end that count for nothing.
const SHORT: usize = 64 << 10;

/// Bytes of room for what follows a long line.
const ROOM: usize = 8 << 10;

/// Why there is no line.
#[derive(Debug)]
pub(super) enum LineError {
    TooLong,
    NotText,
    /// Other lines without an end have all bytes.
    Exhausted(Exhausted),
    Gone,
}

impl From<std::io::Error> for LineError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::InvalidData => Self::NotText,
            _ => Self::Gone,
        }
    }
}

/// Takes lines out of what a client writes.
pub(super) struct Lines {
    codec: LinesCodec,
    share: Arc<Share>,
    peer: Peer,
    /// The part of a long line.
    part: Option<Part>,
}

impl Lines {
    pub(super) fn new(share: Arc<Share>, peer: Peer) -> Self {
        Self {
            codec: LinesCodec::new_with_max_length(MAX_LINE_BYTES),
            share,
            peer,
            part: None,
        }
    }

    /// Counts what is left without an end.
    fn hold(&mut self, bytes: usize) -> Result<(), Exhausted> {
        match &mut self.part {
            _ if bytes <= SHORT => self.part = None,
            Some(part) => part.resize(bytes)?,
            None => self.part = Some(self.share.take(self.peer, bytes)?),
        }
        Ok(())
    }
}

impl Decoder for Lines {
    type Item = String;
    type Error = LineError;

    fn decode(&mut self, from: &mut BytesMut) -> Result<Option<String>, LineError> {
        let line = self.codec.decode(from).map_err(|error| match error {
            LinesCodecError::MaxLineLengthExceeded => LineError::TooLong,
            LinesCodecError::Io(error) => error.into(),
        })?;
        // Several lines may have come at once: what follows this one is counted by the next call.
        if line.is_none() {
            let was_long = self.part.is_some();
            self.hold(from.len()).map_err(LineError::Exhausted)?;
            // A client that is idle keeps no room for a long line, which would count for nothing.
            if was_long && self.part.is_none() {
                let mut rest = BytesMut::with_capacity(from.len().max(ROOM));
                rest.extend_from_slice(&from[..]);
                *from = rest;
            }
        }
        Ok(line)
    }

    fn decode_eof(&mut self, from: &mut BytesMut) -> Result<Option<String>, LineError> {
        self.codec.decode_eof(from).map_err(|error| match error {
            LinesCodecError::MaxLineLengthExceeded => LineError::TooLong,
            LinesCodecError::Io(error) => error.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_line_takes_bytes_until_its_end_and_a_short_one_none() {
        let share = Share::new(1 << 20);
        let peer = Peer {
            user: 1,
            process: 1,
        };
        let mut lines = Lines::new(Arc::clone(&share), peer);
        let mut bytes = BytesMut::with_capacity(1 << 20);
        bytes.extend_from_slice(b"short\nand");
        assert_eq!(lines.decode(&mut bytes).unwrap().as_deref(), Some("short"));
        assert_eq!(lines.decode(&mut bytes).unwrap(), None);
        assert_eq!(share.used(), 0);
        bytes.extend_from_slice(&[b'x'; 100_000]);
        assert_eq!(lines.decode(&mut bytes).unwrap(), None);
        assert_eq!(share.used(), 100_003);
        let mut other = Lines::new(Arc::clone(&share), peer);
        let mut more = BytesMut::from(&[b'x'; 200_000][..]);
        assert!(matches!(
            other.decode(&mut more),
            Err(LineError::Exhausted(_))
        ));
        bytes.extend_from_slice(b"\nnext");
        assert_eq!(lines.decode(&mut bytes).unwrap().unwrap().len(), 100_003);
        assert_eq!(lines.decode(&mut bytes).unwrap(), None);
        assert_eq!(share.used(), 0);
        assert!(bytes.capacity() <= SHORT);
        bytes.extend_from_slice(b" line\n");
        let line = lines.decode(&mut bytes).unwrap();
        assert_eq!(line.as_deref(), Some("next line"));
    }
}
