//! The archive: written in one go, and read in one go. Neither keeps more than a part of a file in memory.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::{Component, Path};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::BackupError;

/// The first file.
const ABOUT: &str = "stockade-backup.json";

/// The last file.
const SUMS: &str = "SHA256SUMS";

/// The format that is written, and the latest that is read.
const FORMAT: u64 = 1;

/// Bytes of the first and of the last file that are read.
const MOST_TEXT: u64 = 256 << 20;

/// What is said of bytes that are something else.
const NO_ARCHIVE: &str = "it is empty, or not a tar archive";

/// Characters of a path.
const MOST_PATH: usize = 1024;

/// The first file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct About {
    /// The format of the archive.
    format: u64,
    /// The version of Stockade that made it.
    stockade: String,
    /// When it was begun, RFC 3339 in UTC.
    pub(super) made: String,
}

/// Writes an archive.
pub(super) struct Writer<W: Write> {
    tar: tar::Builder<W>,
    sums: BTreeMap<String, String>,
    seconds: u64,
    pub(super) bytes: u64,
}

impl<W: Write> Writer<W> {
    /// Begins an archive.
    pub(super) fn begin(to: W, now: SystemTime) -> io::Result<Self> {
        let seconds = now
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let mut writer = Self {
            tar: tar::Builder::new(to),
            sums: BTreeMap::new(),
            seconds,
            bytes: 0,
        };
        let about = About {
            format: FORMAT,
            stockade: env!("CARGO_PKG_VERSION").to_owned(),
            made: humantime::format_rfc3339_seconds(now).to_string(),
        };
        let text = serde_json::to_vec_pretty(&about)?;
        writer.add(ABOUT, text.len() as u64, &*text)?;
        Ok(writer)
    }

    /// Adds a file of this size. What `from` has beyond it is left out: the file may be growing.
    pub(super) fn add(&mut self, path: &str, size: u64, from: impl Read) -> io::Result<()> {
        let mut from = Summed::new(from.take(size));
        let mut header = self.header(size);
        self.tar.append_data(&mut header, path, &mut from)?;
        if from.read != size {
            let why = format!("{path} has become shorter while it was copied");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
        }
        self.bytes += size;
        self.sums.insert(path.to_owned(), from.digest());
        Ok(())
    }

    fn header(&self, size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_mode(0o600);
        header.set_mtime(self.seconds);
        header
    }

    /// Ends the archive with its digests.
    pub(super) fn finish(mut self) -> io::Result<W> {
        let lines = self
            .sums
            .iter()
            .map(|(path, sum)| format!("{sum}  {path}\n"));
        let text: String = lines.collect();
        let mut header = self.header(text.len() as u64);
        self.tar.append_data(&mut header, SUMS, text.as_bytes())?;
        self.tar.into_inner()
    }
}

/// Reads an archive from its start to its end, and gives each of its files to `take`, with a path that is relative and has no way
/// up.
///
/// # Errors
/// Of `take`; when it is not an archive of a backup, is of a later version, or does not have the contents that it was made with.
pub(super) fn read(
    from: impl Read,
    mut take: impl FnMut(&str, &mut dyn Read) -> Result<(), BackupError>,
) -> Result<About, BackupError> {
    let unreadable = |error: io::Error| BackupError::damaged("the archive", &error);
    let mut archive = tar::Archive::new(from);
    let mut about = None;
    let mut found = BTreeMap::new();
    let mut sums = None;
    for entry in archive.entries().map_err(unreadable)? {
        let mut entry = entry.map_err(|error| match about {
            // What the reader says of bytes that are not an archive is about the format's fields.
            None if is_of_format(&error) => BackupError::damaged("the archive", &NO_ARCHIVE),
            _ => unreadable(error),
        })?;
        let path = path_of(&entry)?;
        if sums.is_some() {
            return Err(BackupError::damaged(&path, &"it comes after the digests"));
        }
        if path == SUMS {
            sums = Some(text(&mut entry)?);
            continue;
        }
        let mut summed = Summed::new(&mut entry);
        if about.is_none() {
            if path != ABOUT {
                return Err(BackupError::damaged(
                    &path,
                    &"the archive does not begin with stockade-backup.json",
                ));
            }
            about = Some(read_about(&text(&mut summed)?)?);
        } else {
            take(&path, &mut summed)?;
        }
        if found.insert(path.clone(), summed.digest()).is_some() {
            return Err(BackupError::damaged(&path, &"it is there twice"));
        }
    }
    let about = about.ok_or_else(|| BackupError::damaged("the archive", &NO_ARCHIVE))?;
    let sums = sums.ok_or_else(|| {
        BackupError::damaged(
            "the archive",
            &"it was cut short: its last file, SHA256SUMS, is missing",
        )
    })?;
    compare(&found, &sums)?;
    Ok(about)
}

fn read_about(text: &str) -> Result<About, BackupError> {
    /// What every format has.
    #[derive(Deserialize)]
    struct Any {
        format: u64,
    }
    let wrong = |error: serde_json::Error| BackupError::damaged(ABOUT, &error);
    let any: Any = serde_json::from_str(text).map_err(wrong)?;
    if any.format > FORMAT {
        return Err(BackupError::Newer {
            found: any.format,
            known: FORMAT,
        });
    }
    serde_json::from_str(text).map_err(wrong)
}

/// Whether the files that were read are those of the list.
fn compare(found: &BTreeMap<String, String>, sums: &str) -> Result<(), BackupError> {
    let mut named = 0;
    for line in sums.lines() {
        let (sum, path) = line
            .split_once("  ")
            .ok_or_else(|| BackupError::damaged(SUMS, &"a line is not a digest and a path"))?;
        match found.get(path) {
            None => return Err(BackupError::damaged(path, &"it is missing")),
            Some(read) if read != sum => {
                return Err(BackupError::damaged(
                    path,
                    &"its contents have changed since the backup was made",
                ));
            }
            Some(_) => named += 1,
        }
    }
    if named == found.len() {
        return Ok(());
    }
    Err(BackupError::damaged(
        SUMS,
        &"it does not name every file of the archive",
    ))
}

/// The path of a file; nothing but files is in such an archive.
fn path_of<R: Read>(entry: &tar::Entry<'_, R>) -> Result<String, BackupError> {
    let bytes = entry.path_bytes();
    let path = String::from_utf8_lossy(&bytes).into_owned();
    let is_plain = |part: Component<'_>| matches!(part, Component::Normal(_));
    let is_safe = !path.is_empty()
        && path.len() <= MOST_PATH
        && !path.contains(['\0', '\n', '\\', '\u{fffd}'])
        && !path.contains("//")
        && Path::new(&path).components().all(is_plain);
    if !is_safe || entry.header().entry_type() != tar::EntryType::Regular {
        return Err(BackupError::damaged(
            &format!("{path:?}"),
            &"a backup has no such entry",
        ));
    }
    Ok(path)
}

/// Whether the reader of archives says it, and not the system.
fn is_of_format(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, Other, UnexpectedEof};
    matches!(
        error.kind(),
        InvalidData | InvalidInput | Other | UnexpectedEof
    )
}

fn text(from: &mut impl Read) -> Result<String, BackupError> {
    let mut text = String::new();
    let read = from.take(MOST_TEXT).read_to_string(&mut text);
    read.map_err(|error| BackupError::damaged("the archive", &error))?;
    Ok(text)
}

/// Sums up what is read through it.
struct Summed<R> {
    from: R,
    hash: Sha256,
    read: u64,
}

impl<R: Read> Summed<R> {
    fn new(from: R) -> Self {
        Self {
            from,
            hash: Sha256::new(),
            read: 0,
        }
    }

    fn digest(self) -> String {
        let bytes = self.hash.finalize();
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl<R: Read> Read for Summed<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(to)?;
        if let Some(bytes) = to.get(..read) {
            self.hash.update(bytes);
        }
        self.read += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn archive() -> Vec<u8> {
        let mut writer =
            Writer::begin(Vec::new(), UNIX_EPOCH + Duration::from_secs(1_800_000_000)).unwrap();
        writer.add("state.db", 3, &b"abc, and more"[..]).unwrap();
        writer.add("audit/audit-1.jsonl", 2, &b"{}"[..]).unwrap();
        writer.finish().unwrap()
    }

    fn files(bytes: &[u8]) -> Result<Vec<(String, String)>, BackupError> {
        let mut files = Vec::new();
        read(bytes, |path, from| {
            let mut text = String::new();
            from.read_to_string(&mut text).unwrap();
            files.push((path.to_owned(), text));
            Ok(())
        })?;
        Ok(files)
    }

    #[test]
    fn archive_has_what_was_added() {
        let expected = [("state.db", "abc"), ("audit/audit-1.jsonl", "{}")];
        let expected = expected.map(|(path, text)| (path.to_owned(), text.to_owned()));
        assert_eq!(files(&archive()).unwrap(), expected);
    }

    #[test]
    fn archive_that_was_cut_anywhere_or_changed_anywhere_is_refused() {
        let whole = archive();
        for length in (0..whole.len()).step_by(256) {
            // The end of a tar archive is two blocks of zeroes, which may be missing.
            let cut = whole.get(..length).unwrap();
            if length + 1024 < whole.len() {
                assert!(files(cut).is_err(), "cut at {length}");
            }
        }
        let (mut changed, mut refused) = (0, 0);
        for at in (0..whole.len()).step_by(7) {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            changed += 1;
            match files(&bytes) {
                Err(_) => refused += 1,
                // Padding, owners and times are not contents.
                Ok(read) => assert_eq!(read, files(&whole).unwrap(), "changed at {at}"),
            }
        }
        assert!(refused > changed / 10, "{refused} of {changed}");
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        for path in ["/etc/passwd", "../state.db", "audit/../../x", "audit//x"] {
            let mut tar = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_gnu();
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_size(0);
            header.set_cksum();
            tar.append(&header, io::empty()).unwrap();
            assert!(files(&tar.into_inner().unwrap()).is_err(), "{path}");
        }
    }

    #[test]
    fn later_format_is_named_as_such() {
        let text = br#"{"format": 2, "more": true}"#;
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        tar.append_data(&mut header, ABOUT, &text[..]).unwrap();
        let error = files(&tar.into_inner().unwrap()).unwrap_err();
        assert!(
            matches!(error, BackupError::Newer { found: 2, .. }),
            "{error}"
        );
    }
}
