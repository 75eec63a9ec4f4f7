//! Frames out of a stream of bytes.

use std::io::{self, ErrorKind, IoSliceMut, Read};
use std::marker::PhantomData;

use super::FrameError;
use super::decode::Bulk;
use super::head::{Incoming, MAX_HEAD_BYTES, parse};

/// Bytes of the buffer: many small frames come by one read.
const BUFFER: usize = 32 << 10;

/// A piece of which at least this much is missing is read into its own memory.
const DIRECT: usize = 16 << 10;

/// The least step in which the memory of a large piece grows; later it doubles.
const STEP: usize = 256 << 10;

/// Bytes behind such a piece that are read together with its end: the header of the next frame, and little of what goes
/// into memory of its own.
const NEXT: usize = 512;

/// Bytes of the length of the header.
const LENGTH: usize = size_of::<u32>();

/// Reads frames of kind `T`, over as many calls as it takes.
///
/// After an error of kind [`ErrorKind::WouldBlock`] reading goes on where it was. After
/// [`ErrorKind::InvalidData`] the stream cannot be trusted any more: every further call fails alike.
#[derive(Debug)]
pub struct Reader<T> {
    buffer: Vec<u8>,
    /// What of the buffer is filled and not used.
    start: usize,
    end: usize,
    /// The frame whose bulk is arriving.
    arriving: Option<Arriving>,
    broken: Option<FrameError>,
    frames: PhantomData<fn() -> T>,
}

/// A frame whose header has come, but not all of its bulk.
#[derive(Debug)]
struct Arriving {
    head: Vec<u8>,
    sizes: std::vec::IntoIter<usize>,
    done: Vec<Vec<u8>>,
    piece: Piece,
}

/// A piece that is filled up to `filled`; never allocated further than one step beyond.
#[derive(Debug, Default)]
struct Piece {
    bytes: Vec<u8>,
    filled: usize,
    size: usize,
}

impl Piece {
    fn new(size: usize) -> Self {
        Self {
            bytes: Vec::new(),
            filled: 0,
            size,
        }
    }

    fn missing(&self) -> usize {
        self.size - self.filled
    }

    /// Room for more, as the bytes come.
    fn room(&mut self) -> &mut [u8] {
        if self.bytes.len() == self.filled {
            let more = self.missing().min(self.filled.max(STEP));
            self.bytes.reserve_exact(more);
            self.bytes.resize(self.filled + more, 0);
        }
        &mut self.bytes[self.filled..]
    }

    /// Takes what it can use of `input` and gives how much that was.
    fn take(&mut self, input: &[u8]) -> usize {
        let mut taken = 0;
        while self.missing() > 0 && taken < input.len() {
            let room = self.room();
            let count = room.len().min(input.len() - taken);
            room[..count].copy_from_slice(&input[taken..taken + count]);
            self.filled += count;
            taken += count;
        }
        taken
    }
}

impl Arriving {
    fn new(head: &[u8], sizes: Vec<usize>) -> Self {
        let mut sizes = sizes.into_iter();
        let piece = Piece::new(sizes.next().unwrap_or(0));
        Self {
            head: head.to_vec(),
            sizes,
            done: Vec::new(),
            piece,
        }
    }

    /// Takes what it can use of `input`; how much that was, and whether the bulk is complete.
    fn take(&mut self, input: &[u8]) -> (usize, bool) {
        let mut taken = 0;
        loop {
            taken += self.piece.take(&input[taken..]);
            if self.piece.missing() > 0 {
                return (taken, false);
            }
            self.done.push(std::mem::take(&mut self.piece.bytes));
            match self.sizes.next() {
                Some(size) => self.piece = Piece::new(size),
                None => return (taken, true),
            }
        }
    }
}

impl<T> Default for Reader<T> {
    fn default() -> Self {
        Self {
            buffer: Vec::new(),
            start: 0,
            end: 0,
            arriving: None,
            broken: None,
            frames: PhantomData,
        }
    }
}

impl<T: Incoming> Reader<T> {
    /// A reader at the beginning of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The next frame; `None` when the stream has ended between two frames. Reads no more than it
    /// needs to give one frame, and nothing while a whole one is in its buffer.
    ///
    /// # Errors
    /// Those of `source`; [`ErrorKind::UnexpectedEof`] when the stream ends within a frame;
    /// [`ErrorKind::InvalidData`] with a [`FrameError`] inside for a frame that breaks the rules.
    pub fn read_from<R: Read + ?Sized>(&mut self, source: &mut R) -> io::Result<Option<T>> {
        if let Some(error) = &self.broken {
            return Err(error.clone().into());
        }
        loop {
            match self.next() {
                Ok(Some(frame)) => return Ok(Some(frame)),
                Ok(None) => {}
                Err(error) => {
                    self.broken = Some(error.clone());
                    self.arriving = None;
                    return Err(error.into());
                }
            }
            match self.fill(source) {
                Ok(0) if self.start == self.end && self.arriving.is_none() => return Ok(None),
                Ok(0) => {
                    let text = "the stream ends within a frame";
                    return Err(io::Error::new(ErrorKind::UnexpectedEof, text));
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        let arriving = self.arriving.iter();
        let bulk = arriving.map(|arriving| {
            let done: usize = arriving.done.iter().map(Vec::capacity).sum();
            arriving.head.capacity() + arriving.piece.bytes.capacity() + done
        });
        self.buffer.capacity() + bulk.sum::<usize>()
    }

    /// The length of the next header, once it has come.
    fn head_length(&self) -> Option<usize> {
        let length = self.buffer[self.start..self.end].first_chunk()?;
        Some(u32::from_le_bytes(*length) as usize)
    }

    /// A frame out of what has come.
    fn next(&mut self) -> Result<Option<T>, FrameError> {
        if self.arriving.is_none() {
            let Some(length) = self.head_length() else {
                return Ok(None);
            };
            if length > MAX_HEAD_BYTES {
                return Err(FrameError::TooLarge {
                    what: "a header",
                    size: length,
                    limit: MAX_HEAD_BYTES,
                });
            }
            let come = &self.buffer[self.start + LENGTH..self.end];
            let Some((head, rest)) = come.split_at_checked(length) else {
                return Ok(None);
            };
            let (parsed, size) = parse::<T>(head, |_| {})?;
            if let Some(bulk) = rest.get(..size) {
                let frame = T::build(parsed, &mut Bulk::Buffered(bulk))?;
                self.start += LENGTH + length + size;
                return Ok(Some(frame));
            }
            let mut sizes = Vec::new();
            parse::<T>(head, |size| sizes.push(size))?;
            self.arriving = Some(Arriving::new(head, sizes));
            self.start += LENGTH + length;
        }
        let Some(arriving) = &mut self.arriving else {
            return Ok(None);
        };
        let (taken, complete) = arriving.take(&self.buffer[self.start..self.end]);
        self.start += taken;
        if !complete {
            return Ok(None);
        }
        let Some(Arriving { head, done, .. }) = self.arriving.take() else {
            return Ok(None);
        };
        let (parsed, _) = parse::<T>(&head, |_| {})?;
        T::build(parsed, &mut Bulk::Gathered(done.into_iter())).map(Some)
    }

    /// Reads once, to where the bytes are wanted.
    fn fill<R: Read + ?Sized>(&mut self, source: &mut R) -> io::Result<usize> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.buffer.len() > BUFFER {
                self.buffer.truncate(BUFFER);
                self.buffer.shrink_to_fit();
            }
            if let Some(arriving) = &mut self.arriving
                && arriving.piece.missing() >= DIRECT
            {
                let missing = arriving.piece.missing();
                let room = arriving.piece.room();
                let direct = room.len();
                if direct < missing {
                    let count = source.read(room)?;
                    arriving.piece.filled += count;
                    return Ok(count);
                }
                if self.buffer.len() < NEXT {
                    self.buffer.resize(BUFFER, 0);
                }
                let next = &mut self.buffer[..NEXT];
                let mut slices = [IoSliceMut::new(room), IoSliceMut::new(next)];
                let count = source.read_vectored(&mut slices)?;
                arriving.piece.filled += count.min(direct);
                self.end = count.saturating_sub(direct);
                return Ok(count);
            }
        }
        // What is left is the beginning of a header.
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let header = self.head_length().unwrap_or(0).min(MAX_HEAD_BYTES);
        let wanted = BUFFER.max(LENGTH + header);
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        }
        let count = source.read(&mut self.buffer[self.end..])?;
        self.end += count;
        Ok(count)
    }
}
