//! Packets, as they are made and read outside of a session, and the numbers in them.

use std::io;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::server::ServerError;

/// Length of a packet that another one continues.
pub(crate) const FULL: usize = 0xff_ffff;

/// A packet.
pub(crate) fn packet(sequence: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut packet = Vec::with_capacity(payload.len() + 4);
    packet.extend(&length.to_le_bytes()[..3]);
    packet.push(sequence);
    packet.extend(payload);
    packet
}

/// An error for the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: u16,
    /// SQLSTATE, of five letters.
    pub(crate) state: &'static str,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(code: u16, state: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            state,
            message: message.into(),
        }
    }

    /// The packet.
    pub(crate) fn encode(&self, sequence: u8) -> Vec<u8> {
        let mut payload = vec![0xff];
        payload.extend(self.code.to_le_bytes());
        payload.push(b'#');
        payload.extend(self.state.as_bytes());
        payload.extend(self.message.as_bytes());
        packet(sequence, &payload)
    }
}

/// Reads a packet of at most `max` bytes, with its number.
///
/// # Errors
/// When there is none, or one that is too long.
pub(crate) async fn receive(
    buffer: &mut BytesMut,
    stream: &mut (impl AsyncRead + Unpin),
    max: usize,
) -> Result<(u8, BytesMut), ServerError> {
    loop {
        if let Some(&[a, b, c, sequence]) = buffer.first_chunk() {
            let length = u32::from_le_bytes([a, b, c, 0]) as usize;
            if length > max {
                return Err(ServerError::Protocol("a packet is too long"));
            }
            if buffer.len() >= 4 + length {
                buffer.advance(4);
                return Ok((sequence, buffer.split_to(length)));
            }
        }
        buffer.reserve(4096);
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
}

/// Reads parts of a payload one after another.
pub(crate) struct Parts<'a>(pub(crate) &'a [u8]);

impl<'a> Parts<'a> {
    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes(self.take(2)?.try_into().ok()?))
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    /// Up to a zero, which is left out.
    pub(crate) fn text(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let text = self.take(end)?;
        self.take(1)?;
        Some(text)
    }

    /// A number of one to nine bytes. `None` for what is not one, such as `NULL`.
    pub(crate) fn number(&mut self) -> Option<u64> {
        let width = match self.u8()? {
            small @ ..=0xfa => return Some(small.into()),
            0xfc => 2,
            0xfd => 3,
            0xfe => 8,
            _ => return None,
        };
        let bytes = self.take(width)?;
        Some(
            bytes
                .iter()
                .rev()
                .fold(0, |number, byte| number << 8 | u64::from(*byte)),
        )
    }
}

/// The code and the message of an `ERR` packet.
pub(crate) fn read_error(payload: &[u8]) -> ServerError {
    let mut parts = Parts(payload.get(1..).unwrap_or_default());
    let code = parts.u16().unwrap_or(0).to_string();
    let rest = match parts.0 {
        [b'#', rest @ ..] => rest.get(5..).unwrap_or_default(),
        rest => rest,
    };
    ServerError::Refused {
        code,
        message: String::from_utf8_lossy(rest).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read_and_never_past_the_end() {
        let mut parts =
            Parts(b"\xfa\xfc\x01\x02\xfd\x01\x02\x03\xfe\x01\0\0\0\0\0\0\x80ab\0\xfb\xfc\x01");
        assert_eq!(parts.number(), Some(0xfa));
        assert_eq!(parts.number(), Some(0x201));
        assert_eq!(parts.number(), Some(0x30201));
        assert_eq!(parts.number(), Some(0x8000_0000_0000_0001));
        assert_eq!(parts.text(), Some(&b"ab"[..]));
        assert_eq!(parts.number(), None);
        assert_eq!(parts.number(), None);
        assert_eq!((parts.text(), parts.u32()), (None, None));
    }

    #[tokio::test]
    async fn packets_are_read_one_by_one() {
        let bytes = [packet(3, b"abc"), packet(4, b""), packet(5, &[1; 300])].concat();
        let (mut stream, mut buffer) = (&bytes[..], BytesMut::new());
        let mut next = async || {
            let received = receive(&mut buffer, &mut stream, 299).await;
            received.map(|(sequence, payload)| (sequence, payload.len()))
        };
        assert_eq!(next().await.unwrap(), (3, 3));
        assert_eq!(next().await.unwrap(), (4, 0));
        assert!(next().await.is_err());
    }
}
