//! The configuration file: replaced as a whole, with what it was before.
//!
//! Invariants:
//! 1. The file is the old or the new text, whenever the process ends: a new text is on the disk under another name before
//!    it takes the file's place.
//! 2. A version is named by its contents, so that a change by another hand is seen.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// Versions that are kept.
const KEPT: usize = 50;

/// Bytes of the file.
const MAX_CONFIG_BYTES: u64 = 16 << 20;

/// The file and the folder next to it with its versions, whose name ends in `.history`.
#[derive(Debug, Clone)]
pub(crate) struct ConfigFile {
    path: PathBuf,
}

/// A text that is on the disk and not in use. Dropping it removes it.
pub(crate) struct Staged {
    path: PathBuf,
    target: PathBuf,
}

/// A version that was in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PastVersion {
    /// Counts the versions, from 1.
    pub(crate) number: u64,
    pub(crate) version: String,
    /// When it was recorded, in seconds since 1970.
    pub(crate) recorded: u64,
}

/// Names a text: the first 16 hexadecimal digits of its SHA-256.
pub(crate) fn version_of(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

impl ConfigFile {
    pub(crate) fn new(path: &Path) -> Self {
        // Links are followed once, so that a link stays one.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        Self { path }
    }

    /// The text of the file now.
    pub(crate) fn read(&self) -> io::Result<String> {
        let mut text = String::new();
        let file = File::open(&self.path)?;
        file.take(MAX_CONFIG_BYTES).read_to_string(&mut text)?;
        Ok(text)
    }

    /// Writes a text next to the file, with the file's mode.
    pub(crate) fn stage(&self, text: &str) -> io::Result<Staged> {
        let mode = fs::metadata(&self.path)?.permissions().mode() & 0o777;
        let staged = Staged {
            path: with_ending(&self.path, ".new"),
            target: self.path.clone(),
        };
        let _ = fs::remove_file(&staged.path);
        write_new(&staged.path, text, mode)?;
        Ok(staged)
    }

    fn history_folder(&self) -> PathBuf {
        with_ending(&self.path, ".history")
    }

    /// Keeps a text among the versions, unless it is the latest of them.
    pub(crate) fn keep(&self, text: &str) -> io::Result<()> {
        let folder = self.history_folder();
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)?;
        let versions = self.history()?;
        let version = version_of(text);
        let last = versions.last();
        if last.is_some_and(|last| last.version == version) {
            return Ok(());
        }
        let number = last.map_or(1, |last| last.number + 1);
        let part = folder.join("new");
        let _ = fs::remove_file(&part);
        write_new(&part, text, 0o600)?;
        fs::rename(&part, folder.join(format!("{number:06}-{version}.yaml")))?;
        File::open(&folder)?.sync_all()?;
        let surplus = (versions.len() + 1).saturating_sub(KEPT);
        for old in versions.iter().take(surplus) {
            let name = format!("{:06}-{}.yaml", old.number, old.version);
            fs::remove_file(folder.join(name))?;
        }
        Ok(())
    }

    /// The versions that are kept, the oldest first.
    pub(crate) fn history(&self) -> io::Result<Vec<PastVersion>> {
        let entries = match fs::read_dir(self.history_folder()) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut versions = Vec::new();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let parts = name.to_str().and_then(|name| {
                let (number, version) = name.strip_suffix(".yaml")?.split_once('-')?;
                Some((number.parse().ok()?, version.to_owned()))
            });
            let Some((number, version)) = parts else {
                continue;
            };
            let modified = entry.metadata()?.modified()?;
            let recorded = modified.duration_since(std::time::UNIX_EPOCH);
            versions.push(PastVersion {
                number,
                version,
                recorded: recorded.unwrap_or_default().as_secs(),
            });
        }
        versions.sort_by_key(|version| version.number);
        Ok(versions)
    }

    /// The text of a version that is kept.
    pub(crate) fn text_of(&self, version: &str) -> io::Result<Option<String>> {
        let versions = self.history()?;
        let mut found = versions.iter().rev().filter(|past| past.version == version);
        let Some(past) = found.next() else {
            return Ok(None);
        };
        let name = format!("{:06}-{}.yaml", past.number, past.version);
        fs::read_to_string(self.history_folder().join(name)).map(Some)
    }
}

impl Staged {
    /// Puts the text in the file's place.
    pub(crate) fn commit(self) -> io::Result<()> {
        fs::rename(&self.path, &self.target)?;
        let folder = self.target.parent().unwrap_or(Path::new("/"));
        File::open(folder)?.sync_all()
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Once it is in the file's place, there is nothing here.
        let _ = fs::remove_file(&self.path);
    }
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Writes a file that is not there, onto the disk.
fn write_new(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_is_replaced_and_its_versions_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stockade.yaml");
        fs::write(&path, "one").unwrap();
        let file = ConfigFile::new(&path);
        assert!(file.history().unwrap().is_empty());
        for text in ["one", "one", "two", "three"] {
            let staged = file.stage(text).unwrap();
            staged.commit().unwrap();
            file.keep(text).unwrap();
        }
        assert_eq!(file.read().unwrap(), "three");
        let history = file.history().unwrap();
        let versions: Vec<_> = history.iter().map(|past| past.version.clone()).collect();
        assert_eq!(versions, ["one", "two", "three"].map(version_of));
        assert_eq!(
            file.text_of(&version_of("two")).unwrap().as_deref(),
            Some("two")
        );
        assert_eq!(file.text_of("../../x").unwrap(), None);
        // What is not taken into use leaves nothing.
        drop(file.stage("four").unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        assert_eq!(file.read().unwrap(), "three");
        for number in 0..2 * KEPT {
            file.keep(&number.to_string()).unwrap();
        }
        let history = file.history().unwrap();
        assert_eq!((history.len(), history[0].number), (KEPT, 54));
    }
}
