//! Checks the framing of an HTTP/1 connection before the HTTP library reads it.
//!
//! The library follows Postel: it takes a request with `content-length` and `transfer-encoding` (and hides
//! the former), lines that end in a bare line feed, equal lengths given twice, and more. A proxy in front
//! that reads such a message in another way lets one client's bytes pass for another's request. Here each
//! request must have exactly one meaning. Where it has none, a byte is overwritten with zero so that the library
//! answers 400 and closes, and nothing after it is read.
//!
//! Invariants:
//! 1. What passes has one length by RFC 9112, section 6: either one `content-length` of digits alone, or
//!    one `transfer-encoding` that is `chunked`, or none of both.
//! 2. Every line ends in CR LF, and no other CR or LF stands in a head or between chunks.
//! 3. The library never gets the last byte of a head before the whole head was checked.

use crate::access::Refusal;

/// Length of the hexadecimal digits of a chunk's size: more could overflow.
const CHUNK_DIGITS: u8 = 15;
/// Bytes of chunk extensions in one body; they have no use (RFC 9112, section 7.1.1).
const EXTENSION_BYTES: u32 = 1024;

/// What the next bytes of a connection are.
#[derive(Debug)]
enum Expects {
    /// A request's head.
    Head,
    /// This number of bytes of a body.
    Length(u64),
    /// A body in chunks.
    Chunks(ChunkState),
    /// Nothing, until the server has decided whether the connection goes on as something else.
    Nothing,
    /// Anything: the connection is no longer HTTP.
    Anything,
    /// Nothing more: bytes before were rejected.
    Rejected,
}

/// What came before a head: a client may send one empty line too many after a body (RFC 9112, section 2.2).
#[derive(Debug, Clone, Copy)]
enum HeadLead {
    None,
    Cr,
    Line,
}

/// Where in a chunked body (RFC 9112, section 7.1).
#[derive(Debug, Clone, Copy)]
enum ChunkState {
    Size {
        value: u64,
        digits: u8,
    },
    Extension {
        value: u64,
    },
    SizeLf {
        value: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    /// In a trailer line, or at its start.
    Trailer {
        empty: bool,
    },
    TrailerLf {
        empty: bool,
    },
}

/// How much of the checked bytes may pass to the HTTP library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passage {
    /// All of them.
    All,
    /// This number of bytes, of which the last was overwritten. After them the connection has ended.
    Until(usize, Refusal),
}

/// Where an HTTP/1 connection stands.
#[derive(Debug)]
pub(crate) struct H1Framing {
    expects: Expects,
    /// The beginning of a head whose end has not come yet.
    head: Vec<u8>,
    lead: HeadLead,
    extension_bytes: u32,
    trailer_bytes: usize,
    head_limit: usize,
    /// Heads that have passed.
    requests: u64,
}

/// How a request's body is delimited.
#[derive(Debug, PartialEq, Eq)]
enum BodyLength {
    None,
    Length(u64),
    Chunked,
}

impl H1Framing {
    /// `head_limit` bounds what of a head is kept; the library refuses longer ones itself.
    pub(crate) fn new(head_limit: usize) -> Self {
        Self {
            expects: Expects::Head,
            head: Vec::new(),
            lead: HeadLead::None,
            extension_bytes: 0,
            trailer_bytes: 0,
            head_limit,
            requests: 0,
        }
    }

    /// The number of the request that a refusal is about, from 1.
    pub(crate) fn refused_request(&self, refusal: Refusal) -> u64 {
        match refusal {
            Refusal::MalformedBody => self.requests,
            _ => self.requests + 1,
        }
    }

    /// A head has begun and not ended.
    pub(crate) fn in_head(&self) -> bool {
        matches!(self.expects, Expects::Head) && !self.head.is_empty()
    }

    /// Ends the wait for the server's decision about an upgrade.
    pub(crate) fn decide(&mut self, upgraded: bool) {
        if matches!(self.expects, Expects::Nothing) {
            self.expects = if upgraded {
                Expects::Anything
            } else {
                Expects::Head
            };
        }
    }

    /// The server has not decided about an upgrade yet.
    pub(crate) fn undecided(&self) -> bool {
        matches!(self.expects, Expects::Nothing)
    }

    /// Checks the next bytes of the connection.
    pub(crate) fn inspect(&mut self, data: &mut [u8]) -> Passage {
        let mut at = 0;
        while at < data.len() {
            let rest = data.get_mut(at..).unwrap_or_default();
            let step = match &mut self.expects {
                Expects::Head => self.inspect_head(rest),
                Expects::Length(left) => {
                    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    *left -= length as u64;
                    if *left == 0 {
                        self.expects = Expects::Head;
                    }
                    Ok(length)
                }
                Expects::Chunks(_) => self.inspect_chunks(rest),
                Expects::Anything => return Passage::All,
                Expects::Nothing => Err((0, Refusal::MalformedHead)),
                Expects::Rejected => return Passage::Until(at, Refusal::MalformedHead),
            };
            match step {
                Ok(length) => at += length,
                Err((bad, refusal)) => {
                    self.expects = Expects::Rejected;
                    if let Some(byte) = data.get_mut(at + bad) {
                        *byte = 0;
                    }
                    return Passage::Until(at + bad + 1, refusal);
                }
            }
        }
        Passage::All
    }

    /// Consumes to the end of the head, or everything. The error has the place of the byte to overwrite.
    fn inspect_head(&mut self, data: &[u8]) -> Result<usize, (usize, Refusal)> {
        let bad = |at| (at, Refusal::MalformedHead);
        if self.head.is_empty() {
            match (self.lead, data.first()) {
                (HeadLead::None, Some(b'\r')) => {
                    self.lead = HeadLead::Cr;
                    return Ok(1);
                }
                (HeadLead::Cr, Some(b'\n')) => {
                    self.lead = HeadLead::Line;
                    return Ok(1);
                }
                (HeadLead::Cr, _) | (_, Some(b'\r' | b'\n')) => return Err(bad(0)),
                _ => {}
            }
        }
        let kept = self.head.len();
        // The end may lie across the border of what was kept.
        let from = kept.saturating_sub(3);
        self.head.extend_from_slice(data);
        let Some(end) = end_of_head(&self.head, from) else {
            if self.head.len() > self.head_limit {
                // The library refuses it with 431 or 414: the bytes pass, and nothing after them.
                self.expects = Expects::Rejected;
            }
            return Ok(data.len());
        };
        self.head.truncate(end);
        let meaning = read_head(&self.head);
        let used = end - kept;
        self.head.clear();
        self.lead = HeadLead::None;
        match meaning {
            Some((body, upgrade)) => {
                self.requests += 1;
                self.extension_bytes = 0;
                self.trailer_bytes = 0;
                self.expects = match body {
                    BodyLength::None | BodyLength::Length(0) if upgrade => Expects::Nothing,
                    BodyLength::None | BodyLength::Length(0) => Expects::Head,
                    BodyLength::Length(length) => Expects::Length(length),
                    BodyLength::Chunked => Expects::Chunks(ChunkState::Size {
                        value: 0,
                        digits: 0,
                    }),
                };
                Ok(used)
            }
            None => Err(bad(used.saturating_sub(1))),
        }
    }

    /// Consumes to the end of the body, or everything.
    fn inspect_chunks(&mut self, data: &[u8]) -> Result<usize, (usize, Refusal)> {
        let Expects::Chunks(mut chunk) = self.expects else {
            return Ok(0);
        };
        let mut at = 0;
        while let Some(&byte) = data.get(at) {
            let bad = Err((at, Refusal::MalformedBody));
            chunk = match (chunk, byte) {
                (ChunkState::Data { left }, _) => {
                    let length = usize::try_from(left)
                        .unwrap_or(usize::MAX)
                        .min(data.len() - at);
                    at += length;
                    match left - length as u64 {
                        0 => chunk = ChunkState::DataCr,
                        left => chunk = ChunkState::Data { left },
                    }
                    continue;
                }
                (ChunkState::Size { value, digits }, _) if byte.is_ascii_hexdigit() => {
                    if digits == CHUNK_DIGITS {
                        return bad;
                    }
                    let digit = char::from(byte).to_digit(16).unwrap_or_default();
                    ChunkState::Size {
                        value: value << 4 | u64::from(digit),
                        digits: digits + 1,
                    }
                }
                (ChunkState::Size { digits: 0, .. }, _) => return bad,
                (ChunkState::Size { value, .. }, b'\r') => ChunkState::SizeLf { value },
                (ChunkState::Size { value, .. }, b';') => ChunkState::Extension { value },
                (ChunkState::Extension { value }, b'\r') => ChunkState::SizeLf { value },
                (ChunkState::Extension { value }, b'\t' | b' '..=b'~') => {
                    self.extension_bytes += 1;
                    if self.extension_bytes > EXTENSION_BYTES {
                        return bad;
                    }
                    ChunkState::Extension { value }
                }
                (ChunkState::SizeLf { value: 0 }, b'\n') => ChunkState::Trailer { empty: true },
                (ChunkState::SizeLf { value }, b'\n') => ChunkState::Data { left: value },
                (ChunkState::DataCr, b'\r') => ChunkState::DataLf,
                (ChunkState::DataLf, b'\n') => ChunkState::Size {
                    value: 0,
                    digits: 0,
                },
                (ChunkState::Trailer { empty }, b'\r') => ChunkState::TrailerLf { empty },
                (ChunkState::Trailer { empty: true }, b' ' | b'\t' | b':') => return bad,
                (ChunkState::Trailer { .. }, b'\t' | b' '..=b'~' | 0x80..) => {
                    self.trailer_bytes += 1;
                    if self.trailer_bytes > self.head_limit {
                        return bad;
                    }
                    ChunkState::Trailer { empty: false }
                }
                (ChunkState::TrailerLf { empty: true }, b'\n') => {
                    self.expects = Expects::Head;
                    return Ok(at + 1);
                }
                (ChunkState::TrailerLf { empty: false }, b'\n') => {
                    ChunkState::Trailer { empty: true }
                }
                _ => return bad,
            };
            at += 1;
        }
        self.expects = Expects::Chunks(chunk);
        Ok(at)
    }
}

/// The place after the first empty line, however its lines end: a tolerant reader sees the end of the head
/// there. Looks from `from` on, before which there is none.
fn end_of_head(head: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(next) = head.get(at..)?.iter().position(|byte| *byte == b'\n') {
        let after = at + next + 1;
        match head.get(after..)? {
            [b'\n', ..] => return Some(after + 1),
            [b'\r', b'\n', ..] => return Some(after + 2),
            _ => at = after,
        }
    }
    None
}

/// How the body of a request is delimited, and whether it asks for an upgrade; none if its head is
/// ambiguous. Everything else about a head is the library's to check.
fn read_head(head: &[u8]) -> Option<(BodyLength, bool)> {
    let head = head.strip_suffix(b"\r\n\r\n")?;
    let mut lines = head.split(|byte| *byte == b'\n');
    let last = head.iter().filter(|byte| **byte == b'\n').count();
    let mut number = 0;
    let mut line = || {
        let text = lines.next()?;
        // The last line's end was cut off with the end of the head.
        let text = if number == last {
            Some(text)
        } else {
            text.strip_suffix(b"\r")
        };
        number += 1;
        Some(text.filter(|text| !text.contains(&b'\r')))
    };
    let request_line = line()??;
    let old = !request_line.ends_with(b" HTTP/1.1");
    if request_line.contains(&b'#') {
        return None;
    }
    let mut body = BodyLength::None;
    let mut upgrade = false;
    while let Some(text) = line() {
        let text = text?;
        let colon = text.iter().position(|byte| *byte == b':')?;
        let (name, value) = text.split_at(colon);
        // `content-length`, `transfer-encoding`, `upgrade`: most other names have another length.
        match name.len() {
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let digits = value.strip_prefix(b":")?.trim_ascii();
                if body != BodyLength::None || digits.is_empty() || digits.len() > 18 {
                    return None;
                }
                let mut length = 0;
                for digit in digits {
                    if !digit.is_ascii_digit() {
                        return None;
                    }
                    length = length * 10 + u64::from(digit - b'0');
                }
                body = BodyLength::Length(length);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                let coding = value.strip_prefix(b":")?.trim_ascii();
                if body != BodyLength::None || old || !coding.eq_ignore_ascii_case(b"chunked") {
                    return None;
                }
                body = BodyLength::Chunked;
            }
            7 => upgrade |= name.eq_ignore_ascii_case(b"upgrade"),
            _ => {}
        }
    }
    Some((body, upgrade))
}

#[cfg(test)]
mod tests;
