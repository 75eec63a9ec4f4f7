//! `ErrorResponse`, as it is made for the guest and as it is read from the server.

use bytes::{BufMut, BytesMut};

/// An error for the guest, with its SQLSTATE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ErrorResponse {
    /// Whether the session ends.
    pub(crate) is_fatal: bool,
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

impl ErrorResponse {
    pub(crate) fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            is_fatal: false,
            code,
            message: message.into(),
        }
    }

    pub(crate) fn fatal(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            is_fatal: true,
            ..Self::error(code, message)
        }
    }

    /// The frame.
    pub(crate) fn encode(&self) -> BytesMut {
        let severity = if self.is_fatal { "FATAL" } else { "ERROR" };
        let mut frame = BytesMut::new();
        frame.put_slice(&[b'E', 0, 0, 0, 0]);
        for (field, value) in [
            (b'S', severity),
            (b'V', severity),
            (b'C', self.code),
            (b'M', &self.message),
        ] {
            frame.put_u8(field);
            frame.extend(value.bytes().filter(|byte| *byte != 0));
            frame.put_u8(0);
        }
        frame.put_u8(0);
        let length = u32::try_from(frame.len() - 1).unwrap_or(u32::MAX);
        frame[1..5].copy_from_slice(&length.to_be_bytes());
        frame
    }
}

/// A field of the body of an `ErrorResponse` or `NoticeResponse`, such as `C`, the SQLSTATE.
pub(crate) fn field(body: &[u8], name: u8) -> Option<&[u8]> {
    body.split(|byte| *byte == 0)
        .find_map(|field| field.strip_prefix(&[name]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_response_is_read_back() {
        let frame = ErrorResponse::fatal("57P05", "too\0 long").encode();
        assert_eq!(frame[0], b'E');
        assert_eq!(frame[1..5], u32::to_be_bytes(frame.len() as u32 - 1));
        assert_eq!(field(&frame[5..], b'C'), Some(&b"57P05"[..]));
        assert_eq!(field(&frame[5..], b'M'), Some(&b"too long"[..]));
        assert_eq!(field(&frame[5..], b'D'), None);
    }
}
