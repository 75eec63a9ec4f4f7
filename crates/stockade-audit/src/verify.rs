//! Whether a log is what was written.

use std::path::Path;

use crate::AuditError;
use crate::chain::{CHECKPOINT, Chain, Digest, Link, RETENTION, signed};
use crate::hex::from_hex;
use crate::key::PublicKey;
use crate::segment::{self, RawLine, Segment, SegmentReader};

/// What a log that is whole consists of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// Files.
    pub segments: usize,
    /// Lines, checkpoints among them.
    pub lines: u64,
    /// The number of the first line that is there. It is above 1 where old lines were removed.
    pub first: u64,
    /// The number of the last line.
    pub last: u64,
    /// The digest of the last line.
    pub digest: Option<Digest>,
    /// Checkpoints whose signature is right.
    pub checkpoints: u64,
    /// Lines after the last checkpoint, for which no signature vouches.
    pub unsigned: u64,
    /// Bytes of a line that was being written when the writer ended.
    pub partial: bool,
}

/// Checks every line of the log in a folder: numbers, digests and signatures, and that it does not end before the
/// checkpoint that the file `head` names.
///
/// # Errors
/// Names the first line that is wrong, and what is wrong with it.
pub fn verify(folder: &Path, key: &PublicKey) -> Result<Verified, AuditError> {
    let mut walk = Walk::new(Some(key));
    let segments = segment::all(folder)?;
    for segment in &segments {
        walk.segment(segment)?;
    }
    let cut = |why: String| AuditError::Cut {
        path: folder.to_owned(),
        why,
    };
    if let Some(missing) = walk.removed.filter(|removed| !removed.explained) {
        return Err(cut(format!(
            "lines 1 to {} are missing, and no line says that they were removed because of their age or number",
            missing.through
        )));
    }
    if let Some(head) = head(folder)?
        && walk.chain.next <= head
    {
        return Err(cut(format!(
            "it ends with line {}, but a checkpoint was line {head}: lines were cut off its end",
            walk.chain.next - 1
        )));
    }
    Ok(Verified {
        segments: segments.len(),
        first: walk.first.unwrap_or(0),
        last: walk.chain.next - 1,
        digest: (walk.found.lines > 0).then_some(walk.chain.previous),
        unsigned: walk.chain.unsigned,
        ..walk.found
    })
}

/// The number of the last checkpoint, as the file `head` has it.
pub(crate) fn head(folder: &Path) -> Result<Option<u64>, AuditError> {
    let path = folder.join("head");
    match std::fs::read_to_string(&path) {
        Ok(text) => match text.trim().parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(AuditError::Cut {
                path,
                why: "it is not the number of a line".to_owned(),
            }),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(AuditError::file(path)(error)),
    }
}

/// Lines at the beginning that are not there.
#[derive(Clone, Copy)]
struct Removed {
    through: u64,
    digest: Digest,
    /// A line says that they were removed.
    explained: bool,
}

/// Follows the chain from line to line.
pub(crate) struct Walk<'a> {
    key: Option<&'a PublicKey>,
    pub(crate) chain: Chain,
    first: Option<u64>,
    found: Verified,
    removed: Option<Removed>,
}

impl<'a> Walk<'a> {
    /// Without a key, signatures are not checked.
    pub(crate) fn new(key: Option<&'a PublicKey>) -> Self {
        Self {
            key,
            chain: Chain::EMPTY,
            first: None,
            found: Verified::default(),
            removed: None,
        }
    }

    /// Checks one file. Returns where a line begins that the file ends in.
    pub(crate) fn segment(&mut self, segment: &Segment) -> Result<Option<u64>, AuditError> {
        let mut reader = SegmentReader::open(&segment.path)?;
        let mut partial = None;
        if self.found.partial {
            return Err(reader.broken("the file before this one ends in the middle of a line"));
        }
        while let Some(raw) = reader.next_line()? {
            match raw {
                RawLine::Whole(line) => self.line(&reader, segment, &line)?,
                RawLine::Partial => {
                    self.found.partial = true;
                    partial = Some(reader.offset);
                }
            }
        }
        Ok(partial)
    }

    fn line(
        &mut self,
        at: &SegmentReader,
        segment: &Segment,
        line: &[u8],
    ) -> Result<(), AuditError> {
        let link: Link = serde_json::from_slice(line)
            .map_err(|_| at.broken("it is not a line of an audit log"))?;
        let previous =
            Digest::parse(&link.previous).ok_or_else(|| at.broken("'previous' is not a digest"))?;
        if at.line == 1 && link.n != segment.first {
            return Err(at.broken(format!(
                "the file's name says that it begins with line {}",
                segment.first
            )));
        }

        // The first line that is there: what was before it must be explained later.
        if self.first.is_none() {
            self.first = Some(link.n);
            self.chain.next = link.n;
            if link.n != 1 {
                self.removed = Some(Removed {
                    through: link.n.saturating_sub(1),
                    digest: previous,
                    explained: false,
                });
                self.chain.previous = previous;
            }
        }

        if link.n != self.chain.next {
            return Err(at.broken(format!(
                "this is line {}, and line {} is expected: lines are missing, or their order was changed",
                link.n, self.chain.next
            )));
        }
        if previous != self.chain.previous {
            return Err(at.broken(format!(
                "the line before it is not the one that was written: its digest is {}, and {previous} is expected",
                self.chain.previous
            )));
        }
        match link.event.as_str() {
            CHECKPOINT => self.checkpoint(at, &link, previous)?,
            RETENTION => self.retention(&link),
            _ => {}
        }
        self.chain.step(Digest::of(line));
        if link.event == CHECKPOINT {
            self.chain.unsigned = 0;
        }
        self.found.lines += 1;
        Ok(())
    }

    fn checkpoint(
        &mut self,
        at: &SegmentReader,
        link: &Link,
        previous: Digest,
    ) -> Result<(), AuditError> {
        let Some(key) = self.key else { return Ok(()) };
        let signature = link.signature.as_deref().and_then(from_hex);
        if !signature.is_some_and(|signature| key.has_signed(&signed(link.n, previous), &signature))
        {
            return Err(at.broken("the checkpoint is not signed by this key"));
        }
        self.found.checkpoints += 1;
        Ok(())
    }

    fn retention(&mut self, link: &Link) {
        if let Some(removed) = &mut self.removed
            && link.removed_through == Some(removed.through)
            && link.removed_digest.as_deref().and_then(Digest::parse) == Some(removed.digest)
        {
            removed.explained = true;
        }
    }
}
