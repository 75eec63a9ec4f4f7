//! Giving a file or folder of a granted folder another name there.

use std::io;

use cap_std::fs::Dir;
use rustix::fs::RenameFlags;

use super::write::{make_one, sync};
use super::{Folder, WriteOptions};
use crate::audit::Reason;
use crate::files::error::{FileError, Misfit};
use crate::files::path::{GuestPath, MOST_PATH_NAMES};

/// Moves `from` to `to`. A file takes the place of a file, a folder that of an empty folder.
pub(super) fn rename(
    folder: &Folder,
    path: &str,
    from: &GuestPath,
    to: &GuestPath,
    options: WriteOptions,
) -> Result<(), FileError> {
    let (Some((from_parent, from_name)), Some((to_parent, to_name))) = (from.split(), to.split())
    else {
        return Err(folder.refuse(path, Reason::Path));
    };
    if options.make_folders {
        for ancestor in to.ancestors() {
            make_one(folder, path, ancestor)?;
        }
    }
    let fail = |what, error: io::Error| folder.failed(what, path, &error);
    let open = |at: &str| {
        let opened = folder.root.open_dir(at);
        opened.map_err(|error| fail("opening the folder of", error))
    };
    let (from_parent, to_parent) = (open(from_parent)?, open(to_parent)?);
    // Nothing else changes names or sizes meanwhile.
    let _change = folder.ledger.change.lock();
    let old = from_parent
        .symlink_metadata(from_name)
        .map_err(|error| fail("renaming", error))?;
    if !old.is_dir() && !old.is_file() {
        return Err(folder.refuse(path, Reason::SpecialFile));
    }
    // What a moved folder holds must still have a path that a guest can say.
    if old.is_dir() {
        let opened = from_parent
            .open_dir(from_name)
            .map_err(|error| fail("opening", error))?;
        let height = height(&opened).map_err(|error| fail("looking at", error))?;
        if to.depth() + height > MOST_PATH_NAMES {
            return Err(folder.refuse(to.as_str(), Reason::Path));
        }
    }
    // What is replaced.
    let replaced = match to_parent.symlink_metadata(to_name) {
        Ok(_) if options.create_new => return Err(folder.exists(to.as_str())),
        Ok(there) if there.is_file() || there.is_dir() => Some(there),
        Ok(_) => return Err(folder.refuse(to.as_str(), Reason::SpecialFile)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(fail("looking at", error)),
    };
    let is_same = replaced.as_ref().is_some_and(|there| {
        use cap_std::fs::MetadataExt as _;
        (there.dev(), there.ino()) == (old.dev(), old.ino())
    });
    let flags = match options.create_new {
        true => RenameFlags::NOREPLACE,
        false => RenameFlags::empty(),
    };
    rustix::fs::renameat_with(&from_parent, from_name, &to_parent, to_name, flags).map_err(
        |error| match error {
            rustix::io::Errno::INVAL => folder.kind(path, Misfit::IntoItself),
            other => fail("renaming", other.into()),
        },
    )?;
    if let Some(there) = replaced.filter(|_| !is_same) {
        folder
            .ledger
            .give_back(if there.is_file() { there.len() } else { 0 });
    }
    for parent in [&from_parent, &to_parent] {
        sync(parent).map_err(|error| fail("writing", error))?;
    }
    Ok(())
}

/// How many folders lie in each other below this one, and files in them; no more than a path can have.
fn height(folder: &Dir) -> io::Result<usize> {
    let mut highest = 0;
    let mut left = vec![(folder.try_clone()?, 1)];
    while let Some((folder, depth)) = left.pop() {
        for entry in folder.entries()? {
            let entry = entry?;
            highest = highest.max(depth);
            if entry.file_type()?.is_dir() {
                if depth > MOST_PATH_NAMES {
                    return Ok(depth);
                }
                left.push((entry.open_dir()?, depth + 1));
            }
        }
    }
    Ok(highest)
}
