//! What the file system reports about files, to be compared with what it reports later.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use rustix::fs::{Access, AtFlags, CWD, accessat};

/// A file as it was at one time; `None` where there was none.
///
/// It differs after a write, a replacement, a moved symbolic link, and when the file becomes readable or
/// unreadable. It stays equal when only owner, permissions or the number of hard links change.
pub type FileState = Option<FileFacts>;

/// See [`FileState`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileFacts {
    device: u64,
    inode: u64,
    length: u64,
    /// Seconds and nanoseconds since 1970.
    modified: (i64, i64),
    is_readable: bool,
}

/// The states of files, in their order. Follows symbolic links, so that a moved link is a change. Blocks.
#[must_use]
pub fn file_states(files: &[PathBuf]) -> Vec<FileState> {
    let one = |file: &PathBuf| {
        let data = std::fs::metadata(file).ok()?;
        Some(FileFacts {
            device: data.dev(),
            inode: data.ino(),
            length: data.len(),
            modified: (data.mtime(), data.mtime_nsec()),
            is_readable: accessat(CWD, file, Access::READ_OK, AtFlags::EACCESS).is_ok(),
        })
    };
    files.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, hard_link, rename, set_permissions, write};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn state_differs_after_a_write_and_a_replacement_and_not_after_chmod() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        let state = || file_states(std::slice::from_ref(&file));
        assert_eq!(state(), [None]);
        write(&file, "1").unwrap();
        let first = state();
        set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        hard_link(&file, folder.path().join("backup")).unwrap();
        assert_eq!(state(), first);
        write(&file, "22").unwrap();
        let second = state();
        assert_ne!(second, first);
        write(folder.path().join("b"), "33").unwrap();
        rename(folder.path().join("b"), &file).unwrap();
        assert_ne!(state(), second);
    }
}
