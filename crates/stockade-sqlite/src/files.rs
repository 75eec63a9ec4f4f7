//! The files of a database, opened and locked by the supervisor, which never reads them.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::OpenError;
use crate::sys::lock;

/// What may be done with a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading. The file must exist.
    Read,
    /// That, and changing. The file is made where there is none.
    Write,
}

/// First byte and number of bytes that SQLite itself locks (its file format, "Locking"), where every program looks
/// that opens the database.
const LOCKED: (i64, i64) = (0x4000_0000, 512);

/// The open files of one database: itself, its write-ahead log, its rollback journal.
#[derive(Debug)]
pub(crate) struct Files {
    files: [File; stockade_jail::FILES],
    /// Logs and journals that are removed with the last worker where they are empty.
    temporary: [PathBuf; 2],
}

impl Files {
    /// Opens and locks all files.
    pub(crate) fn open(path: &Path, access: Access) -> Result<Self, OpenError> {
        let main = open_one(path, access, access == Access::Write)?;
        lock_whole(path, &main)?;
        let next_to = |suffix: &str| {
            let mut name = OsString::from(path);
            name.push(suffix);
            PathBuf::from(name)
        };
        let temporary = [next_to("-wal"), next_to("-journal")];
        let [log, journal] = &temporary;
        // A reader must not write what the next writer would apply. Both exist for it, if empty.
        let extra = |path: &Path| {
            let file = open_one(path, Access::Write, true)?;
            match access {
                Access::Write => Ok(file),
                Access::Read => open_one(path, Access::Read, false),
            }
        };
        Ok(Self {
            files: [main, extra(log)?, extra(journal)?],
            temporary,
        })
    }

    /// Copies of the descriptors, for a worker.
    pub(crate) fn share(&self) -> io::Result<Vec<OwnedFd>> {
        self.files
            .iter()
            .map(|file| file.try_clone().map(OwnedFd::from))
            .collect()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let [_, log, journal] = &self.files;
        for (file, path) in [log, journal].into_iter().zip(&self.temporary) {
            if file.metadata().is_ok_and(|metadata| metadata.len() == 0) {
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

fn open_one(path: &Path, access: Access, create: bool) -> Result<File, OpenError> {
    let failed = |why: String| OpenError::File {
        path: path.to_owned(),
        why,
    };
    let opened = OpenOptions::new()
        .read(true)
        .write(access == Access::Write)
        .create(create)
        .truncate(false)
        .mode(0o600)
        // A FIFO would block, and a link may lead anywhere.
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path);
    let file = opened.map_err(|error| {
        failed(match error.raw_os_error() {
            Some(libc::ELOOP) => "it is a symbolic link, and must be a file".to_owned(),
            _ => format!("it cannot be opened: {error}"),
        })
    })?;
    let kind = file
        .metadata()
        .map_err(|error| failed(format!("it cannot be inspected: {error}")))?
        .file_type();
    if !kind.is_file() || kind.is_fifo() {
        return Err(failed("it is not a regular file".to_owned()));
    }
    Ok(file)
}

/// Locks the database as a writer of SQLite does for the whole time. The lock belongs to the open file, so a worker
/// that has a copy of the descriptor keeps it, and the kernel gives it back with the last copy.
fn lock_whole(path: &Path, file: &File) -> Result<(), OpenError> {
    let (start, length) = LOCKED;
    let writable =
        rustix::fs::fcntl_getfl(file).is_ok_and(|flags| flags.contains(rustix::fs::OFlags::RDWR));
    let region = libc::flock {
        l_type: if writable {
            libc::F_WRLCK
        } else {
            libc::F_RDLCK
        } as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: start,
        l_len: length,
        l_pid: 0,
    };
    match lock::set(file.as_raw_fd(), &region) {
        Ok(()) => Ok(()),
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::EAGAIN) | Some(libc::EACCES)
            ) =>
        {
            Err(OpenError::Locked(path.to_owned()))
        }
        Err(error) => Err(OpenError::File {
            path: path.to_owned(),
            why: format!("it cannot be locked: {error}"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_made_locked_and_tidied_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        Files::open(&path, Access::Read).unwrap_err();
        let first = Files::open(&path, Access::Write).unwrap();
        assert!(matches!(
            Files::open(&path, Access::Write),
            Err(OpenError::Locked(_))
        ));
        assert!(matches!(
            Files::open(&path, Access::Read),
            Err(OpenError::Locked(_))
        ));
        let copies = first.share().unwrap();
        drop(first);
        assert!(matches!(
            Files::open(&path, Access::Read),
            Err(OpenError::Locked(_))
        ));
        drop(copies);
        drop(Files::open(&path, Access::Read).unwrap());
        let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    #[test]
    fn files_are_no_links_and_no_pipes() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
        let error = Files::open(&link, Access::Write).unwrap_err().to_string();
        assert!(error.contains("symbolic link"), "{error}");
        let error = Files::open(folder.path(), Access::Read).unwrap_err();
        assert!(error.to_string().contains("regular file"), "{error}");
    }
}
