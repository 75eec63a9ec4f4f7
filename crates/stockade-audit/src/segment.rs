//! The files of a folder. Each is named by the number of its first line: `audit-000000000001.jsonl`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Seek as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::AuditError;

/// Bytes of a line that are read. Lines of ours are shorter.
const MAX_LINE: u64 = 64 << 10;

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Segment {
    /// The number of its first line.
    pub(crate) first: u64,
    pub(crate) path: PathBuf,
}

impl Segment {
    pub(crate) fn new(folder: &Path, first: u64) -> Self {
        Self {
            first,
            path: folder.join(format!("audit-{first:012}.jsonl")),
        }
    }

    /// Opens it for appending.
    pub(crate) fn append(&self) -> Result<File, AuditError> {
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o640)
            .open(&self.path)
            .map_err(AuditError::file(&self.path))
    }
}

/// The files of a folder, the oldest first.
pub(crate) fn all(folder: &Path) -> Result<Vec<Segment>, AuditError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(AuditError::file(folder))? {
        let entry = entry.map_err(AuditError::file(folder))?;
        let name = entry.file_name();
        let number = (name.to_str())
            .and_then(|name| name.strip_prefix("audit-")?.strip_suffix(".jsonl"))
            .and_then(|number| number.parse().ok());
        if let Some(first) = number {
            found.push(Segment {
                first,
                path: entry.path(),
            });
        }
    }
    found.sort();
    Ok(found)
}

/// Reads a file line by line.
pub(crate) struct SegmentReader {
    path: PathBuf,
    from: BufReader<File>,
    /// The line that was read last, from 1.
    pub(crate) line: u64,
    /// Where that line begins.
    pub(crate) offset: u64,
    next_offset: u64,
}

/// A line of a file.
pub(crate) enum RawLine {
    /// Without its end.
    Whole(Vec<u8>),
    /// The file ends in the middle of it.
    Partial,
}

impl SegmentReader {
    pub(crate) fn open(path: &Path) -> Result<Self, AuditError> {
        let file = File::open(path).map_err(AuditError::file(path))?;
        Ok(Self {
            path: path.to_owned(),
            from: BufReader::with_capacity(1 << 16, file),
            line: 0,
            offset: 0,
            next_offset: 0,
        })
    }

    /// The next line. `None` at the end of the file.
    pub(crate) fn next_line(&mut self) -> Result<Option<RawLine>, AuditError> {
        let mut bytes = Vec::new();
        let read = io::Read::take(&mut self.from, MAX_LINE)
            .read_until(b'\n', &mut bytes)
            .map_err(AuditError::file(&self.path))?;
        if read == 0 {
            return Ok(None);
        }
        self.offset = self.next_offset;
        self.next_offset += read as u64;
        self.line += 1;
        if bytes.pop_if(|last| *last == b'\n').is_some() {
            return Ok(Some(RawLine::Whole(bytes)));
        }
        if read as u64 == MAX_LINE {
            return Err(self.broken("a line is longer than any that Stockade writes"));
        }
        Ok(Some(RawLine::Partial))
    }

    /// Reads the last line once more.
    pub(crate) fn step_back(&mut self) -> Result<(), AuditError> {
        self.next_offset = self.offset;
        self.line -= 1;
        (self.from.seek(io::SeekFrom::Start(self.offset)))
            .map(drop)
            .map_err(AuditError::file(&self.path))
    }

    pub(crate) fn broken(&self, why: impl Into<String>) -> AuditError {
        AuditError::Broken {
            path: self.path.clone(),
            line: self.line,
            why: why.into(),
        }
    }
}
