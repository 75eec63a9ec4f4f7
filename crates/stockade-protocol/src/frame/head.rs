//! The headers, as postcard reads and writes them. The order of variants and fields is the format;
//! both ends are the same program.

use serde::{Deserialize, Serialize};

use super::FrameError;
use super::decode::Bulk;
use crate::bounds::{MAX_MESSAGE_PARTS, MAX_NAME_BYTES, MAX_RELATED_DEPTH, MAX_RELATED_ERRORS};
use crate::probe::{ProbeId, ProbeOrder};

/// Bytes of the longest header: one length for each binary part, a name, and some numbers.
pub(super) const MAX_HEAD_BYTES: usize =
    MAX_MESSAGE_PARTS * PART + MAX_NAME_BYTES + 256 + MAX_RELATED_ERRORS * RELATED;

/// Bytes of the header of an error that another one came of: ten numbers, ten bytes each at most.
const RELATED: usize = 100;

/// Bytes of the length of a binary part.
const PART: usize = size_of::<u32>();

/// A message that can be sent and read as a frame: [`ToWorker`](super::ToWorker) or
/// [`FromWorker`](super::FromWorker).
pub trait Frame: Outgoing + Incoming {}

impl<T: Outgoing + Incoming> Frame for T {}

/// The way out.
pub trait Outgoing {
    /// Appends the header.
    fn head(&self, out: Vec<u8>) -> Vec<u8>;

    /// Visits the pieces of the bulk in the order of the header's lengths.
    fn bulk<'a>(&'a self, visit: &mut dyn FnMut(&'a [u8]));
}

impl<T: Outgoing> Outgoing for &T {
    fn head(&self, out: Vec<u8>) -> Vec<u8> {
        (**self).head(out)
    }

    fn bulk<'a>(&'a self, visit: &mut dyn FnMut(&'a [u8])) {
        (**self).bulk(visit);
    }
}

/// The way in.
pub trait Incoming: Sized {
    /// The header, borrowing its names from the bytes.
    type Head<'a>: Deserialize<'a>;

    /// Visits the pieces of the bulk in their order, and gives the most that all of them may hold
    /// together.
    ///
    /// # Errors
    /// When the header itself breaks a rule.
    fn pieces(
        head: &Self::Head<'_>,
        visit: &mut dyn FnMut(Piece) -> Result<(), FrameError>,
    ) -> Result<usize, FrameError>;

    /// Makes the message of its header and the bulk that the header speaks of.
    ///
    /// # Errors
    /// When a piece breaks a rule.
    fn build(head: Self::Head<'_>, bulk: &mut Bulk<'_>) -> Result<Self, FrameError>;
}

/// A piece of the bulk that a header speaks of.
pub struct Piece {
    /// For errors.
    pub(super) what: &'static str,
    pub(super) size: usize,
    /// The largest size that is taken.
    pub(super) limit: usize,
}

#[derive(Serialize, Deserialize)]
pub enum ToHead<'a> {
    Start {
        isolate: u32,
        options: usize,
    },
    Execute {
        isolate: u32,
        code: usize,
    },
    Evaluate {
        isolate: u32,
        id: u64,
        code: usize,
    },
    Ready {
        isolate: u32,
        id: u64,
    },
    Call {
        isolate: u32,
        id: u64,
        name: &'a str,
        #[serde(borrow)]
        args: DataHead<'a>,
    },
    Event {
        isolate: u32,
        name: &'a str,
        data: DataHead<'a>,
    },
    Answer {
        isolate: u32,
        id: u64,
        result: ResultHead<'a>,
    },
    Control {
        isolate: u32,
        name: &'a str,
        data: DataHead<'a>,
    },
    End {
        isolate: u32,
    },
    Probe {
        isolate: u32,
        id: ProbeId,
        order: ProbeOrder,
    },
    Debug {
        isolate: u32,
        id: ProbeId,
        text: usize,
    },
}

#[derive(Serialize, Deserialize)]
pub enum FromHead<'a> {
    Ready,
    Started {
        isolate: u32,
        problem: Option<ProblemHead>,
    },
    Event {
        isolate: u32,
        name: &'a str,
        #[serde(borrow)]
        data: DataHead<'a>,
    },
    Request {
        isolate: u32,
        id: u64,
        method: &'a str,
        data: DataHead<'a>,
    },
    Reply {
        isolate: u32,
        id: u64,
        result: ResultHead<'a>,
    },
    Console {
        isolate: u32,
        level: u8,
        text: usize,
    },
    Uncaught {
        isolate: u32,
        error: ErrorHead,
    },
    Control {
        isolate: u32,
        name: &'a str,
        data: DataHead<'a>,
    },
    Taken {
        isolate: u32,
        messages: u32,
        bytes: u64,
    },
    State {
        isolate: u32,
        idle: bool,
        seen: u64,
        cpu_ns: u64,
        memory: u64,
    },
    Ended {
        isolate: u32,
        termination: TerminationHead,
    },
    Left {
        isolate: u32,
    },
    Found {
        isolate: u32,
        id: ProbeId,
        finding: FindingHead,
    },
}

/// A finding, with the lengths of its bytes.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub enum FindingHead {
    Piece(usize),
    Message,
    Done,
    Failed(usize),
}

#[derive(Serialize, Deserialize)]
pub struct ProblemHead {
    pub(super) what: usize,
    pub(super) checked: usize,
    pub(super) fix: usize,
}

#[derive(Serialize, Deserialize)]
pub struct TerminationHead {
    pub(super) reason: usize,
    pub(super) detail: usize,
    pub(super) cpu_ns: u64,
    pub(super) cpu_total_ns: u64,
    pub(super) wall_ns: u64,
    pub(super) memory: u64,
}

#[derive(Serialize, Deserialize)]
pub enum ResultHead<'a> {
    #[serde(borrow)]
    Value(DataHead<'a>),
    Error(ErrorHead),
}

#[derive(Serialize, Deserialize)]
pub struct ErrorHead {
    pub(super) texts: TextsHead,
    pub(super) related: Vec<RelatedHead>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct RelatedHead {
    pub(super) depth: u8,
    pub(super) member: bool,
    pub(super) texts: TextsHead,
}

#[derive(Serialize, Deserialize)]
pub(super) struct TextsHead {
    pub(super) name: usize,
    pub(super) message: usize,
    pub(super) code: Option<usize>,
    pub(super) stack: Option<usize>,
    pub(super) position: Option<PositionHead>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct PositionHead {
    pub(super) source: usize,
    pub(super) line: u32,
    pub(super) column: u32,
}

#[derive(Serialize, Deserialize)]
pub struct DataHead<'a> {
    pub(super) json: usize,
    pub(super) marked: bool,
    /// The length of each binary part, as 4 bytes, little-endian.
    pub(super) parts: &'a [u8],
}

impl DataHead<'_> {
    /// The lengths of the binary parts.
    pub(super) fn parts(&self) -> impl ExactSizeIterator<Item = usize> {
        let (lengths, _) = self.parts.as_chunks::<PART>();
        lengths
            .iter()
            .map(|length| u32::from_le_bytes(*length) as usize)
    }

    /// Visits the text and the parts.
    pub(super) fn pieces(
        &self,
        limit: usize,
        visit: &mut dyn FnMut(Piece) -> Result<(), FrameError>,
    ) -> Result<(), FrameError> {
        let rest = self.parts.len() % PART;
        if rest != 0 {
            return Err(FrameError::Rest(rest));
        }
        let count = self.parts().len();
        if count > MAX_MESSAGE_PARTS {
            return Err(FrameError::TooLarge {
                what: "a number of binary parts",
                size: count,
                limit: MAX_MESSAGE_PARTS,
            });
        }
        visit(Piece {
            what: "JSON text",
            size: self.json,
            limit,
        })?;
        self.parts().try_for_each(|size| {
            visit(Piece {
                what: "a binary part",
                size,
                limit,
            })
        })
    }
}

impl ErrorHead {
    /// Visits the texts.
    pub(super) fn pieces(
        &self,
        limit: usize,
        visit: &mut dyn FnMut(Piece) -> Result<(), FrameError>,
    ) -> Result<(), FrameError> {
        let count = self.related.len();
        if count > MAX_RELATED_ERRORS {
            return Err(FrameError::TooLarge {
                what: "a number of related errors",
                size: count,
                limit: MAX_RELATED_ERRORS,
            });
        }
        self.texts.pieces(limit, visit)?;
        let mut nearest = 0;
        for related in &self.related {
            // Each belongs to one before it.
            if !(1..=MAX_RELATED_DEPTH.min(nearest + 1)).contains(&related.depth) {
                return Err(FrameError::Depth(related.depth));
            }
            nearest = related.depth;
            related.texts.pieces(limit, visit)?;
        }
        Ok(())
    }
}

impl TextsHead {
    fn pieces(
        &self,
        limit: usize,
        visit: &mut dyn FnMut(Piece) -> Result<(), FrameError>,
    ) -> Result<(), FrameError> {
        let texts = [
            ("the name of an error", Some(self.name)),
            ("the message of an error", Some(self.message)),
            ("the code of an error", self.code),
            ("the stack of an error", self.stack),
            (
                "the source of an error",
                self.position.as_ref().map(|position| position.source),
            ),
        ];
        for (what, size) in texts {
            if let Some(size) = size {
                visit(Piece { what, size, limit })?;
            }
        }
        Ok(())
    }
}

/// Refuses a name that is too long.
pub(super) fn check_name(name: &str) -> Result<(), FrameError> {
    if name.len() > MAX_NAME_BYTES {
        return Err(FrameError::TooLarge {
            what: "a name",
            size: name.len(),
            limit: MAX_NAME_BYTES,
        });
    }
    Ok(())
}

/// Reads a header and sums up what follows it; every length is within its limit.
pub(super) fn parse<'a, T: Incoming>(
    bytes: &'a [u8],
    mut each: impl FnMut(usize),
) -> Result<(T::Head<'a>, usize), FrameError> {
    let (head, rest) =
        postcard::take_from_bytes::<T::Head<'a>>(bytes).map_err(FrameError::Header)?;
    if !rest.is_empty() {
        return Err(FrameError::Rest(rest.len()));
    }
    let mut sum = 0_usize;
    let most = T::pieces(&head, &mut |piece| {
        let Piece { what, size, limit } = piece;
        if size > limit {
            return Err(FrameError::TooLarge { what, size, limit });
        }
        sum = sum.saturating_add(size);
        each(size);
        Ok(())
    })?;
    if sum > most {
        return Err(FrameError::TooLarge {
            what: "a message",
            size: sum,
            limit: most,
        });
    }
    Ok((head, sum))
}
