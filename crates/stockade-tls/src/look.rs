//! The state of files, compared to notice that one has changed.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// What the file system says of a file: device, inode, length, time of change of contents and of inode.
pub(crate) type Look = Option<(u64, u64, u64, [i64; 4])>;

/// Follows symbolic links, so that a moved link is a change.
pub(crate) fn look(files: &[PathBuf]) -> Vec<Look> {
    let one = |file: &PathBuf| {
        let data = std::fs::metadata(file).ok()?;
        let times = [
            data.mtime(),
            data.mtime_nsec(),
            data.ctime(),
            data.ctime_nsec(),
        ];
        Some((data.dev(), data.ino(), data.len(), times))
    };
    files.iter().map(one).collect()
}
