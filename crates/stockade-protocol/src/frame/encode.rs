//! A frame as the pieces of memory that make it up, and how much of it is written.

use std::io::{self, IoSlice, Write};

use super::FrameError;
use super::head::{Frame, Incoming, MAX_HEAD_BYTES, Outgoing, parse};

/// Pieces below this size are copied behind the header, so that a small frame is one piece.
const INLINE: usize = 4 << 10;

/// The most pieces that [`Encoded::slices`] gives at once; the kernel takes no more (`IOV_MAX`).
pub const MAX_SLICES: usize = 1024;

/// Bytes of the length of the header.
const LENGTH: usize = size_of::<u32>();

/// A frame on its way out. `F` is a frame or a reference to one.
#[derive(Debug)]
pub struct Encoded<F> {
    frame: F,
    /// Length, header and small pieces.
    own: Vec<u8>,
    /// Where the small pieces begin in `own`.
    inlined: usize,
    /// Whether there are pieces that were not copied.
    large: bool,
    size: usize,
    written: usize,
}

/// Prepares a frame for writing. With a reference, large data stays where it is; with the frame
/// itself, nothing is borrowed, for a sender that writes the rest later.
#[must_use]
pub fn encode<F: Outgoing>(frame: F) -> Encoded<F> {
    let mut own = Vec::with_capacity(64);
    append_head(&frame, &mut own);
    let inlined = own.len();
    let mut borrowed = 0;
    let mut large = false;
    frame.bulk(&mut |piece| {
        if piece.len() < INLINE {
            own.extend_from_slice(piece);
        } else {
            borrowed += piece.len();
            large = true;
        }
    });
    Encoded {
        inlined,
        large,
        size: own.len() + borrowed,
        written: 0,
        own,
        frame,
    }
}

/// Appends a frame to others, its data copied: for one of which [`bulk_size`] says that it is small.
pub fn append<F: Outgoing>(frame: &F, out: &mut Vec<u8>) {
    append_head(frame, out);
    frame.bulk(&mut |piece| out.extend_from_slice(piece));
}

/// Bytes of a frame without its header.
#[must_use]
pub fn bulk_size<F: Outgoing>(frame: &F) -> usize {
    let mut size = 0;
    frame.bulk(&mut |piece| size += piece.len());
    size
}

/// Appends the length of the header, and the header.
fn append_head<F: Outgoing>(frame: &F, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend([0; LENGTH]);
    *out = frame.head(std::mem::take(out));
    let head = out.len().saturating_sub(start + LENGTH);
    let head = u32::try_from(head).unwrap_or(u32::MAX);
    let length = out.get_mut(start..).and_then(<[u8]>::first_chunk_mut);
    if let Some(length) = length {
        *length = head.to_le_bytes();
    }
}

/// Checks a frame as [`Reader`](super::Reader) will.
///
/// # Errors
/// What the reader would refuse it for. UTF-8 is no question here.
pub fn check<T: Frame>(frame: &T) -> Result<(), FrameError> {
    let head = frame.head(Vec::new());
    check_head::<T>(&head)
}

fn check_head<T: Incoming>(head: &[u8]) -> Result<(), FrameError> {
    parse::<T>(head, |_| {})?;
    if head.len() > MAX_HEAD_BYTES {
        return Err(FrameError::TooLarge {
            what: "a header",
            size: head.len(),
            limit: MAX_HEAD_BYTES,
        });
    }
    Ok(())
}

impl<F: Outgoing> Encoded<F> {
    /// Bytes of the whole frame.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Bytes that are not written yet.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.size - self.written
    }

    /// What is not written yet, for one `writev`: at most [`MAX_SLICES`] pieces. Empty when done.
    #[must_use]
    pub fn slices(&self) -> Vec<IoSlice<'_>> {
        let mut slices = Vec::new();
        let mut skip = self.written;
        let mut put = |bytes| put(&mut slices, &mut skip, bytes);
        if !self.large {
            put(&self.own);
            return slices;
        }
        let (mut from, mut to) = (0, self.inlined);
        self.frame.bulk(&mut |piece| {
            if piece.len() < INLINE {
                to += piece.len();
            } else {
                put(&self.own[from..to]);
                put(piece);
                from = to;
            }
        });
        put(&self.own[from..]);
        slices
    }

    /// Notes that `count` more bytes were written.
    pub fn advance(&mut self, count: usize) {
        self.written = self.written.saturating_add(count).min(self.size);
    }

    /// Writes what is left. After an error of kind [`io::ErrorKind::WouldBlock`] call it again.
    ///
    /// # Errors
    /// Those of `out`, and [`io::ErrorKind::WriteZero`] when it takes nothing.
    pub fn write_to<W: Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        while self.remaining() > 0 {
            let result = if self.large {
                out.write_vectored(&self.slices())
            } else {
                out.write(&self.own[self.written..])
            };
            match result {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.advance(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn put<'a>(slices: &mut Vec<IoSlice<'a>>, skip: &mut usize, bytes: &'a [u8]) {
    if *skip >= bytes.len() {
        *skip -= bytes.len();
    } else if slices.len() < MAX_SLICES {
        slices.push(IoSlice::new(&bytes[*skip..]));
        *skip = 0;
    }
}
