//! One direction of a session: bytes that pass in frames, through one buffer.

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// What is read at a time.
const CHUNK: usize = 16 << 10;

/// One direction. What the buffer holds begins where the last write ended.
#[derive(Default)]
pub(crate) struct Flow {
    pub(crate) buffer: BytesMut,
    /// Bytes of the frame that passes which are still to come.
    pub(crate) rest: usize,
    /// Bytes of a frame that is left out which are still to come.
    pub(crate) left_out: usize,
    /// Whether a write was begun and not finished.
    is_writing: bool,
}

impl Flow {
    pub(crate) fn new(buffer: BytesMut) -> Self {
        Self {
            buffer,
            ..Self::default()
        }
    }

    /// Whether everything that was read has passed, up to the end of a frame.
    pub(crate) fn is_at_boundary(&self) -> bool {
        self.left_out == 0 && self.buffer.is_empty() && self.is_written_to_boundary()
    }

    /// Whether everything that was written ends with a frame.
    pub(crate) fn is_written_to_boundary(&self) -> bool {
        self.rest == 0 && !self.is_writing
    }

    /// Goes on to the next frame of which nothing was passed yet. `passed` grows to its beginning, and the bytes from
    /// there are given. There are none while the frame before is not complete.
    pub(crate) fn next(&mut self, passed: &mut usize) -> &[u8] {
        let gone = self.left_out.min(self.buffer.len());
        self.buffer.advance(gone);
        self.left_out -= gone;
        let here = self.rest.min(self.buffer.len() - *passed);
        self.rest -= here;
        *passed += here;
        &self.buffer[*passed..]
    }

    /// Writes the first bytes of the buffer. Whether that was possible.
    pub(crate) async fn write(&mut self, count: usize, to: &mut (impl AsyncWrite + Unpin)) -> bool {
        let bytes = self.buffer.split_to(count);
        self.insert(&bytes, to).await
    }

    /// Writes what did not come from the other side. Whether that was possible.
    pub(crate) async fn insert(
        &mut self,
        bytes: &[u8],
        to: &mut (impl AsyncWrite + Unpin),
    ) -> bool {
        if bytes.is_empty() {
            return true;
        }
        self.is_writing = true;
        let is_written = to.write_all(bytes).await.is_ok() && to.flush().await.is_ok();
        self.is_writing = !is_written;
        is_written
    }

    /// Reads more. Whether there was more. Nothing is lost when it is cancelled.
    pub(crate) async fn read(&mut self, from: &mut (impl AsyncRead + Unpin)) -> bool {
        self.buffer.reserve(CHUNK);
        matches!(from.read_buf(&mut self.buffer).await, Ok(1..))
    }

    /// Reads until the other side goes away, as long as there is room for what it sends.
    pub(crate) async fn gone(&mut self, from: &mut (impl AsyncRead + Unpin)) {
        while self.buffer.len() < CHUNK {
            if !self.read(from).await {
                return;
            }
        }
        std::future::pending().await
    }
}
