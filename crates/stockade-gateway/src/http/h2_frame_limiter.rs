//! Counts the frames of an HTTP/2 connection before the HTTP library sees them (RFC 9113, section 4.1).
//!
//! Frames that carry no request and no data cost the server work and the client nothing. The library
//! bounds some of them (resets, the size of a header block), this bounds them all, and notices a header
//! block that does not end. It only reads; the library refuses what is malformed.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use stockade_limits::RateLimiter;

const PREFACE_LENGTH: u64 = 24;
const HEADER_LENGTH: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
/// A client may open its windows once for this number of bytes that were sent to it. Clients do so after each
/// frame of data, or after half a window.
const BYTES_AN_UPDATE: u64 = 512;

const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

/// Frames of this time may come at once.
const FRAMES_AT_ONCE: Duration = Duration::from_secs(4);

/// A connection has sent more frames than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameFlood;

/// Where an HTTP/2 connection stands, and how many costly frames it may still send.
#[derive(Debug)]
pub(crate) struct H2FrameLimiter {
    header: [u8; HEADER_LENGTH],
    have: usize,
    /// Bytes of the frame, or of the preface, still to come.
    left: u64,
    /// A header block has begun and not ended.
    in_head: bool,
    /// The frame at hand ends the block.
    ends_head: bool,
    /// The rate of frames without request or data.
    rate: RateLimiter,
    /// Times that the client opened a window.
    updates: u64,
}

impl H2FrameLimiter {
    /// `rate`: frames without request or data a second.
    pub(crate) fn new(rate: u32) -> Self {
        let rate = NonZeroU64::new(rate.into()).unwrap_or(NonZeroU64::MIN);
        Self {
            header: [0; HEADER_LENGTH],
            have: 0,
            left: PREFACE_LENGTH,
            in_head: false,
            ends_head: false,
            rate: RateLimiter::new(rate, FRAMES_AT_ONCE),
            updates: 0,
        }
    }

    /// A header block has begun and not ended.
    pub(crate) fn in_head(&self) -> bool {
        self.in_head
    }

    /// Counts the frames in the next bytes of the connection. `written`: the bytes that were sent to the client.
    pub(crate) fn inspect(&mut self, mut data: &[u8], written: u64) -> Result<(), FrameFlood> {
        loop {
            let skip = usize::try_from(self.left)
                .unwrap_or(usize::MAX)
                .min(data.len());
            self.left -= skip as u64;
            data = data.get(skip..).unwrap_or_default();
            if self.left == 0 && self.ends_head {
                self.in_head = false;
                self.ends_head = false;
            }
            let Some((&byte, rest)) = data.split_first() else {
                return Ok(());
            };
            if let Some(place) = self.header.get_mut(self.have) {
                *place = byte;
            }
            self.have += 1;
            data = rest;
            if self.have == HEADER_LENGTH {
                self.have = 0;
                self.frame(written)?;
            }
        }
    }

    fn frame(&mut self, written: u64) -> Result<(), FrameFlood> {
        let [a, b, c, kind, flags, ..] = self.header;
        let length = u32::from_be_bytes([0, a, b, c]);
        self.left = u64::from(length);
        let costly = match kind {
            DATA => length == 0 && flags & END_STREAM == 0,
            HEADERS => false,
            // Only the last of a block may be small.
            CONTINUATION => flags & END_HEADERS == 0,
            WINDOW_UPDATE => {
                self.updates += 1;
                self.updates > written / BYTES_AN_UPDATE
            }
            _ => true,
        };
        if matches!(kind, HEADERS | CONTINUATION) {
            self.in_head = true;
            self.ends_head = flags & END_HEADERS != 0;
        }
        if costly {
            let taken = self.rate.try_take(1, Instant::now());
            taken.map_err(|_| FrameFlood)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let size = u32::try_from(length).unwrap().to_be_bytes();
        let mut bytes = vec![size[1], size[2], size[3], kind, flags, 0, 0, 0, 1];
        bytes.resize(HEADER_LENGTH + length, 7);
        bytes
    }

    fn frames() -> H2FrameLimiter {
        let mut frames = H2FrameLimiter::new(1);
        assert_eq!(frames.inspect(PREFACE, 0), Ok(()));
        frames
    }

    #[test]
    fn frames_with_requests_and_data_are_free() {
        let mut frames = frames();
        for _ in 0..1000 {
            assert_eq!(frames.inspect(&frame(HEADERS, END_HEADERS, 30), 0), Ok(()));
            assert_eq!(frames.inspect(&frame(DATA, 0, 1000), 0), Ok(()));
            assert_eq!(frames.inspect(&frame(DATA, END_STREAM, 0), 0), Ok(()));
        }
    }

    #[test]
    fn frames_without_purpose_are_a_flood() {
        for (kind, length) in [
            (DATA, 0),
            (2, 5),
            (3, 4),
            (4, 0),
            (6, 8),
            (8, 4),
            (9, 1),
            (99, 0),
        ] {
            let mut frames = frames();
            let sent = frame(kind, 0, length);
            let passed = (0..100)
                .take_while(|_| frames.inspect(&sent, 0).is_ok())
                .count();
            assert_eq!(passed, 4, "frames of kind {kind}");
        }
    }

    #[test]
    fn windows_may_be_opened_as_often_as_data_is_sent() {
        let mut frames = frames();
        let update = frame(WINDOW_UPDATE, 0, 4);
        let mut written = 0;
        for _ in 0..10_000 {
            written += 1024;
            assert_eq!(frames.inspect(&update, written), Ok(()));
            assert_eq!(frames.inspect(&update, written), Ok(()));
        }
        let passed = (0..100).take_while(|_| frames.inspect(&update, written).is_ok());
        assert_eq!(passed.count(), 4);
    }

    #[test]
    fn header_block_is_open_until_its_last_byte() {
        let mut bytes = PREFACE.to_vec();
        bytes.extend(frame(HEADERS, END_STREAM, 10));
        bytes.extend(frame(CONTINUATION, END_HEADERS, 10));
        let (begin, end) = (PREFACE.len() + HEADER_LENGTH, bytes.len());
        let mut frames = H2FrameLimiter::new(1);
        for (at, byte) in bytes.iter().enumerate() {
            assert_eq!(frames.inspect(&[*byte], 0), Ok(()));
            assert_eq!(
                frames.in_head(),
                (begin..end).contains(&(at + 1)),
                "byte {at}"
            );
        }
    }
}
