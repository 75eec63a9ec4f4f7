//! Takes a backup.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{FlockOperation, OFlags, flock};
use stockade_config::Config;

use super::BackupError;
use super::archive::Writer;
use super::database::{self, sibling};
use super::store::{Kind, Store, is_passing, stores};

/// Bytes that stay free on the disk of a copy.
const ROOM: u64 = 64 << 20;

/// What a backup has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackedUp {
    /// The names of the stores in it.
    pub stores: Vec<&'static str>,
    /// Bytes of their files.
    pub bytes: u64,
}

/// Copies everything that a server of this configuration keeps, whether or not it runs: into the file `to`, or onto standard
/// output. Each database is copied as it is at one instant, one after the other.
///
/// The calling process runs with a lower priority from now on, so that requests go first.
///
/// # Errors
/// When something cannot be read or written. The file `to` is then what it was before.
pub fn back_up(config: &Config, named: &Path, to: Option<&Path>) -> Result<BackedUp, BackupError> {
    let stores: Vec<Store> = stores(config)
        .into_iter()
        .filter(|store| store.path.exists())
        .collect();
    if stores.is_empty() {
        return Err(BackupError::Nothing {
            config: named.to_owned(),
        });
    }
    // Where the kernel refuses, the backup is as good.
    let _ = rustix::process::nice(10);
    let Some(to) = to else {
        // One database after the other has its copy next to the state.
        let scratch = Locked::open(&config.state.with_file_name(".stockade-backup.db"))?;
        check_room(&scratch.path, &stores, false)?;
        let (mut written, copied) = write(io::stdout().lock(), &stores, &scratch)?;
        let standard = Path::new("standard output");
        written
            .flush()
            .map_err(BackupError::file(standard, "writing it"))?;
        return Ok(copied);
    };
    let to = std::path::absolute(to).map_err(BackupError::file(to, "finding it"))?;
    let mut part = Locked::open(&sibling(&to, ".part"))?;
    let scratch = Locked::open(&sibling(&to, ".part-db"))?;
    check_room(&scratch.path, &stores, true)?;
    let paced = Paced {
        file: &part.file,
        unwritten: 0,
    };
    let (written, copied) = write(BufWriter::with_capacity(1 << 20, paced), &stores, &scratch)?;
    let failed = |error| BackupError::file(&part.path, "writing it")(error);
    written
        .into_inner()
        .map_err(|error| failed(error.into_error()))?
        .file
        .sync_all()
        .map_err(failed)?;
    fs::rename(&part.path, &to).map_err(BackupError::file(&to, "putting it into its place"))?;
    part.renamed = true;
    sync_folder_of(&to)?;
    Ok(copied)
}

/// Makes the names in the folder of a file durable.
pub(super) fn sync_folder_of(path: &Path) -> Result<(), BackupError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(BackupError::file(folder, "making its names durable"))
}

/// A file that is empty at first and that only this process writes, and that is removed when it is dropped. What a process that was
/// killed left in it is gone.
struct Locked {
    path: PathBuf,
    file: File,
    /// Has another name, and stays.
    renamed: bool,
}

impl Locked {
    fn open(path: &Path) -> Result<Self, BackupError> {
        let failed = |error| BackupError::file(path, "making it")(error);
        let another = || BackupError::Another {
            path: path.to_owned(),
        };
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(false).mode(0o600);
        // Not through a link that somebody else has put there.
        let options = options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
        let file = options.open(path).map_err(failed)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| another())?;
        // The one that had it may have given it its name meanwhile.
        let is_here = match (fs::metadata(path), file.metadata()) {
            (Ok(there), Ok(ours)) => (there.dev(), there.ino()) == (ours.dev(), ours.ino()),
            _ => false,
        };
        if !is_here {
            return Err(another());
        }
        file.set_len(0).map_err(failed)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            renamed: false,
        })
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        if !self.renamed {
            // The next one would begin with it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Bytes that are put onto the disk at once.
const PACE: usize = 8 << 20;

/// Puts what it writes onto the disk a part at a time. Commits of the server, each of which waits for the disk, would wait for all
/// of it at the end.
struct Paced<'a> {
    file: &'a File,
    unwritten: usize,
}

impl Write for Paced<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.unwritten += written;
        if self.unwritten >= PACE {
            self.unwritten = 0;
            self.file.sync_data()?;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Refuses a backup that would fill the disk, on which the server may write as well.
fn check_room(at: &Path, stores: &[Store], with_archive: bool) -> Result<(), BackupError> {
    let size = |store: &Store| {
        let of = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
        match store.kind {
            Kind::Database => of(&store.path) + of(&sibling(&store.path, "-wal")),
            Kind::File | Kind::Folder => 0,
        }
    };
    let largest = stores.iter().map(size).max().unwrap_or(0);
    let all: u64 = stores.iter().map(size).sum();
    let needed = largest + ROOM + if with_archive { all } else { 0 };
    let folder = at.parent().unwrap_or(Path::new("/"));
    let found = rustix::fs::statvfs(folder)
        .map_err(|error| BackupError::file(folder, "asking for its free space")(error.into()))?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    if free >= needed {
        return Ok(());
    }
    Err(BackupError::NoRoom {
        path: folder.to_owned(),
        needed: needed.div_ceil(1 << 20),
        free: free >> 20,
    })
}

fn write<W: Write>(
    to: W,
    stores: &[Store],
    scratch: &Locked,
) -> Result<(W, BackedUp), BackupError> {
    let archive = Path::new("the archive");
    let failed = |error| BackupError::file(archive, "writing it")(error);
    let mut writer = Writer::begin(to, SystemTime::now()).map_err(failed)?;
    for store in stores {
        match store.kind {
            Kind::Database => {
                let at = &scratch.path;
                let empty = |error| BackupError::file(at, "making room in it")(error);
                scratch.file.set_len(0).map_err(empty)?;
                database::copy(&store.path, at)?;
                add(&mut writer, store.name, at)?;
            }
            Kind::File => add(&mut writer, store.name, &store.path)?,
            Kind::Folder => add_folder(&mut writer, store)?,
        }
    }
    let copied = BackedUp {
        stores: stores.iter().map(|store| store.name).collect(),
        bytes: writer.bytes,
    };
    Ok((writer.finish().map_err(failed)?, copied))
}

fn add<W: Write>(writer: &mut Writer<W>, name: &str, path: &Path) -> Result<(), BackupError> {
    let failed = |error| BackupError::file(path, "copying it")(error);
    let file = File::open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    writer.add(name, size, file).map_err(failed)
}

/// Adds the files of a folder. Those that are only added to are copied up to where they are now.
fn add_folder<W: Write>(writer: &mut Writer<W>, store: &Store) -> Result<(), BackupError> {
    let mut files = Vec::new();
    list(&store.path, &store.path, &mut files)?;
    // `head` of an audit log names a line that the files have which are read after it. What a deployment names, stands there
    // before it.
    files.sort_by_key(|path| (!path.ends_with("head"), path.clone()));
    for relative in files {
        let path = store.path.join(&relative);
        let Some(text) = relative.to_str() else {
            let error = io::Error::other("its path is not UTF-8");
            return Err(BackupError::file(&path, "naming it")(error));
        };
        match add(writer, &format!("{}/{text}", store.name), &path) {
            Err(BackupError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                // The oldest files of an audit log go in time, and a line of it says so.
                if store.name != "audit" {
                    return Err(BackupError::Removed { path });
                }
            }
            added => added?,
        }
    }
    Ok(())
}

/// The files below a folder, relative to it, as far as they belong to the store.
fn list(root: &Path, folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), BackupError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        // Removed since its name was read; what needs it reports that.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(BackupError::file(folder, "reading it")(error)),
    };
    for entry in entries {
        let entry = entry.map_err(BackupError::file(folder, "reading it"))?;
        let path = entry.path();
        let Ok(relative) = path.strip_prefix(root) else {
            continue;
        };
        let kind = entry
            .file_type()
            .map_err(BackupError::file(&path, "looking at it"))?;
        if is_passing(relative) {
            continue;
        }
        if kind.is_dir() {
            list(root, &path, files)?;
        } else if kind.is_file() {
            files.push(relative.to_owned());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_of_a_backup_that_failed_is_removed_and_one_with_its_own_name_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("backup.tar.part");
        drop(Locked::open(&path).unwrap());
        assert!(!path.exists());
        let mut part = Locked::open(&path).unwrap();
        let whole = folder.path().join("backup.tar");
        fs::rename(&path, &whole).unwrap();
        part.renamed = true;
        // Another backup has begun meanwhile.
        let another = Locked::open(&path).unwrap();
        drop(part);
        assert!(whole.exists() && path.exists());
        drop(another);
    }
}
