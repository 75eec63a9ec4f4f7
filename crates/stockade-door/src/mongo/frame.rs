//! Messages of the wire protocol (OP_MSG, and OP_QUERY for `hello`).

use super::bson::{Document, Malformed};

/// Bytes of a header.
pub(crate) const HEADER: usize = 16;

const OP_REPLY: i32 = 1;
const OP_QUERY: i32 = 2004;
const OP_COMPRESSED: i32 = 2012;
const OP_MSG: i32 = 2013;

/// Flags of OP_MSG.
const CHECKSUM: u32 = 1;
const MORE_TO_COME: u32 = 1 << 1;
const EXHAUST_ALLOWED: u32 = 1 << 16;

/// What every reply to OP_QUERY begins with: flags, a cursor, where it starts, one document.
const REPLY: usize = 20;

/// Why a message cannot be passed on. The text is for the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Forged(pub(crate) &'static str);

impl From<Malformed> for Forged {
    fn from(Malformed: Malformed) -> Self {
        Self("a message holds something that is not BSON")
    }
}

/// A command of a guest.
#[derive(Debug)]
pub(crate) struct Message<'a> {
    pub(crate) id: i32,
    /// Whether it came as OP_QUERY, and is to be answered so.
    pub(crate) is_query: bool,
    /// Whether the guest wants no answer.
    pub(crate) is_silent: bool,
    pub(crate) body: Document<'a>,
    /// Documents that belong to the body, by the name of its field.
    pub(crate) sequences: Vec<Sequence<'a>>,
}

/// A sequence of documents, with the bytes that it is.
#[derive(Debug)]
pub(crate) struct Sequence<'a> {
    pub(crate) name: &'a str,
    pub(crate) documents: Vec<Document<'a>>,
    raw: &'a [u8],
}

/// Sequences of one message: a command has one field for documents.
const MAX_SEQUENCES: usize = 4;

/// The length of the message that begins `bytes`, with its header. `None` while that is not known.
pub(crate) fn length(bytes: &[u8]) -> Result<Option<usize>, Forged> {
    let Some(length) = bytes.first_chunk::<4>() else {
        return Ok(None);
    };
    match usize::try_from(i32::from_le_bytes(*length)) {
        Ok(length) if length >= HEADER => Ok(Some(length)),
        _ => Err(Forged("a message has a length that is none")),
    }
}

fn number(bytes: &[u8], at: usize) -> Option<i32> {
    let number = bytes.get(at..)?.first_chunk::<4>()?;
    Some(i32::from_le_bytes(*number))
}

/// The documents that fill `bytes`.
fn documents(mut bytes: &[u8]) -> Result<Vec<Document<'_>>, Malformed> {
    let mut documents = Vec::new();
    while !bytes.is_empty() {
        let document = Document::at(bytes)?;
        bytes = &bytes[document.bytes().len()..];
        documents.push(document);
    }
    Ok(documents)
}

impl<'a> Message<'a> {
    /// The message that begins `bytes`; `None` while it is not there completely.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Option<Self>, Forged> {
        let Some(length) = length(bytes)? else {
            return Ok(None);
        };
        let Some(bytes) = bytes.get(..length) else {
            return Ok(None);
        };
        let (Some(id), Some(code)) = (number(bytes, 4), number(bytes, 12)) else {
            return Ok(None);
        };
        let body = &bytes[HEADER..];
        match code {
            OP_MSG => Self::of_msg(id, body).map(Some),
            OP_QUERY => Self::of_query(id, body).map(Some),
            OP_COMPRESSED => Err(Forged(
                "compression is not supported: leave out `compressors`",
            )),
            _ => Err(Forged("a message is neither OP_MSG nor the first hello")),
        }
    }

    fn of_msg(id: i32, bytes: &'a [u8]) -> Result<Self, Forged> {
        let flags = number(bytes, 0).ok_or(Malformed)?.cast_unsigned();
        if flags & !(MORE_TO_COME | EXHAUST_ALLOWED) != 0 {
            return Err(Forged(match flags & CHECKSUM {
                0 => "a message has a flag that is not known",
                _ => "a message has a checksum, which is not supported",
            }));
        }
        let (mut rest, mut found, mut sequences) = (&bytes[4..], None, Vec::new());
        while let Some((kind, after)) = rest.split_first() {
            match kind {
                0 => {
                    let document = Document::at(after)?;
                    rest = &after[document.bytes().len()..];
                    if found.replace(document).is_some() {
                        return Err(Forged("a message has two bodies"));
                    }
                }
                1 if sequences.len() < MAX_SEQUENCES => {
                    let length = number(after, 0).and_then(|length| usize::try_from(length).ok());
                    let length = length.ok_or(Malformed)?;
                    let raw = after.get(..length).ok_or(Malformed)?;
                    let content = raw.get(4..).ok_or(Malformed)?;
                    let end = content
                        .iter()
                        .position(|byte| *byte == 0)
                        .ok_or(Malformed)?;
                    let name = std::str::from_utf8(&content[..end]).map_err(|_| Malformed)?;
                    sequences.push(Sequence {
                        name,
                        documents: documents(&content[end + 1..])?,
                        raw,
                    });
                    rest = &after[length..];
                }
                _ => return Err(Malformed.into()),
            }
        }
        Ok(Self {
            id,
            is_query: false,
            is_silent: flags & MORE_TO_COME != 0,
            body: found.ok_or(Malformed)?,
            sequences,
        })
    }

    /// Flags, the collection, what to skip and to return, and the query. Of old messages only the one that asks for
    /// `hello` is still in use.
    fn of_query(id: i32, bytes: &'a [u8]) -> Result<Self, Forged> {
        let rest = bytes.get(4..).ok_or(Malformed)?;
        let rest = rest
            .strip_prefix(b"admin.$cmd\0")
            .ok_or(Forged("OP_QUERY is for the first hello only"))?;
        Ok(Self {
            id,
            is_query: true,
            is_silent: false,
            body: Document::at(rest.get(8..).ok_or(Malformed)?)?,
            sequences: Vec::new(),
        })
    }

    /// The message to the server, with another body.
    pub(crate) fn request(&self, id: i32, body: &[u8]) -> Vec<u8> {
        let sequences = self.sequences.iter();
        let length = sequences
            .clone()
            .map(|one| one.raw.len() + 1)
            .sum::<usize>();
        let mut bytes = Vec::with_capacity(HEADER + 5 + body.len() + length);
        bytes.extend_from_slice(&message(id, 0, body));
        for sequence in sequences {
            bytes.push(1);
            bytes.extend_from_slice(sequence.raw);
        }
        set_length(&mut bytes);
        bytes
    }

    /// The answer to the guest.
    pub(crate) fn answer(&self, body: &[u8]) -> Vec<u8> {
        if !self.is_query {
            return message(0, self.id, body);
        }
        let mut bytes = header(0, self.id, OP_REPLY);
        bytes.extend_from_slice(&[0; REPLY]);
        // One document.
        bytes[HEADER + 16] = 1;
        bytes.extend_from_slice(body);
        set_length(&mut bytes);
        bytes
    }
}

/// An OP_MSG with one body.
pub(crate) fn message(id: i32, to: i32, body: &[u8]) -> Vec<u8> {
    let mut bytes = header(id, to, OP_MSG);
    // No flags, and the kind of the section.
    bytes.extend_from_slice(&[0; 5]);
    bytes.extend_from_slice(body);
    set_length(&mut bytes);
    bytes
}

fn header(id: i32, to: i32, code: i32) -> Vec<u8> {
    [0, id, to, code].map(i32::to_le_bytes).concat()
}

fn set_length(bytes: &mut [u8]) {
    let length = i32::try_from(bytes.len()).unwrap_or(i32::MAX);
    bytes[..4].copy_from_slice(&length.to_le_bytes());
}

/// A complete reply of the server: to which request, and its body.
pub(crate) fn reply(bytes: &[u8]) -> Result<(i32, Document<'_>), Malformed> {
    let (to, code) = (number(bytes, 8), number(bytes, 12));
    let flags = number(bytes, HEADER).ok_or(Malformed)?.cast_unsigned();
    let section = bytes.get(HEADER + 4..).ok_or(Malformed)?;
    let (Some(to), Some(OP_MSG), 0, Some((0, body))) =
        (to, code, flags & !CHECKSUM, section.split_first())
    else {
        return Err(Malformed);
    };
    Ok((to, Document::at(body)?))
}

#[cfg(test)]
mod tests {
    use super::super::bson::Writer;
    use super::*;

    #[test]
    fn message_is_read_as_it_was_written() {
        let body = Writer::new().text("insert", "things").finish();
        let one = Writer::new().int32("a", 1).finish();
        let mut bytes = message(7, 0, &body);
        let sequence = [&b"documents\0"[..], &one, &one].concat();
        bytes.push(1);
        bytes.extend_from_slice(&(u32::try_from(sequence.len()).unwrap() + 4).to_le_bytes());
        bytes.extend_from_slice(&sequence);
        set_length(&mut bytes);
        let read = Message::read(&bytes).unwrap().unwrap();
        assert_eq!((read.id, read.body.bytes()), (7, &body[..]));
        assert_eq!(
            (read.sequences[0].name, read.sequences[0].documents.len()),
            ("documents", 2)
        );
        let mut other = bytes.clone();
        other[4..8].copy_from_slice(&9_i32.to_le_bytes());
        assert_eq!(read.request(9, &body), other);
        for end in 0..bytes.len() {
            assert!(Message::read(&bytes[..end]).unwrap().is_none(), "{end}");
        }
    }

    #[test]
    fn message_that_does_not_belong_here_is_refused() {
        let body = Writer::new().int32("ping", 1).finish();
        let good = message(1, 0, &body);
        let changed = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            Message::read(&bytes).map(|message| message.is_some())
        };
        assert_eq!(changed(16, 0), Ok(true));
        // Compression, another old message, a checksum, an unknown flag, a section of no kind.
        assert!(changed(12, 0xdc).unwrap_err().0.contains("compression"));
        assert!(changed(12, 0xd2).is_err());
        assert!(changed(16, 1).unwrap_err().0.contains("checksum"));
        assert!(changed(16, 4).is_err());
        assert!(changed(20, 2).is_err());
        let two = [&good[..], &[0], &body].concat();
        let mut two = two;
        set_length(&mut two);
        assert_eq!(
            Message::read(&two).unwrap_err().0,
            "a message has two bodies"
        );
        assert!(length(&[15, 0, 0, 0]).is_err() && length(&[0, 0, 0, 0x80]).is_err());
    }

    #[test]
    fn reply_is_read_where_it_answers() {
        let body = Writer::new().double("ok", 1.0).finish();
        let bytes = message(3, 9, &body);
        let (to, read) = reply(&bytes).unwrap();
        assert_eq!((to, read.bytes()), (9, &body[..]));
        for end in 0..bytes.len() {
            assert!(reply(&bytes[..end]).is_err());
        }
    }
}
