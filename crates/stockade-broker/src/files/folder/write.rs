//! Writing and deleting in a granted folder.

use std::fs::File;
use std::io::{self, Write as _};
use std::sync::Arc;

use bytes::Bytes;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt as _};
use http_body_util::BodyExt as _;
use rustix::fs::{OFlags, RenameFlags};
use stockade_http::Body;

use super::{EntryKind, Folder, Metadata, Place, WriteOptions};
use crate::audit::Reason;
use crate::files::error::FileError;
use crate::files::path::{DRAFT_PREFIX, GuestPath};
use crate::files::storage::Room;

/// Bytes that are gathered before they are written.
const PIECE: usize = 256 * 1024;

/// A file that is being written, under a name of its own. Deleted unless it is put in its place.
struct Draft {
    parent: Dir,
    file: File,
    own_name: String,
    name: String,
    room: Option<Room>,
    size: u64,
    is_placed: bool,
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.is_placed {
            // On failure it lies there until the folder is counted again.
            let _ = self.parent.remove_file(&self.own_name);
        }
    }
}

/// Writes a body to a file.
pub(super) async fn file(
    folder: Arc<Folder>,
    place: &Place,
    path: String,
    at: GuestPath,
    mut body: Body,
    options: WriteOptions,
) -> Result<Metadata, FileError> {
    let begun = folder.blocking(place, path.clone(), move |folder, path| {
        begin(folder, path, &at, options)
    });
    let mut draft = begun.await?;
    loop {
        let mut pieces: Vec<Bytes> = Vec::new();
        let mut gathered = 0;
        let mut is_end = false;
        while gathered < PIECE && !is_end {
            match body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        gathered += data.len();
                        pieces.push(data);
                    }
                }
                Some(Err(error)) => {
                    return Err(FileError::Failed {
                        binding: folder.options.binding.clone(),
                        what: "receiving the data for",
                        path,
                        why: error.to_string(),
                    });
                }
                None => is_end = true,
            }
        }
        if gathered > 0 {
            draft = folder
                .blocking(place, path.clone(), move |folder, path| {
                    append(folder, path, draft, &pieces)
                })
                .await?;
        }
        if is_end {
            let finish = move |folder: &Folder, path: &str| replace(folder, path, draft, options);
            return folder.blocking(place, path, finish).await;
        }
    }
}

fn begin(
    folder: &Folder,
    path: &str,
    at: &GuestPath,
    options: WriteOptions,
) -> Result<Draft, FileError> {
    let Some((parent, name)) = at.split() else {
        return Err(folder.kind(path, "is a folder"));
    };
    if options.make_folders {
        for ancestor in at.ancestors() {
            make_one(folder, path, ancestor)?;
        }
    }
    let fail = |what, error: io::Error| folder.failed(what, path, &error);
    let parent = folder
        .root
        .open_dir(parent)
        .map_err(|error| fail("opening the folder of", error))?;
    let old = old_size(folder, path, &parent, name, options)?;
    let limits = &folder.options;
    // The new version exists next to the old one for a while.
    let most_entries = limits.max_entries.saturating_add(u64::from(old.is_some()));
    let room = folder.ledger.take_entry(limits.storage_limit, most_entries);
    let room = room.map_err(|_| full(folder, path))?;
    let own_name = format!("{DRAFT_PREFIX}{}", random());
    let mut flags = OpenOptions::new();
    flags.write(true).create_new(true).mode(0o644);
    let file = parent
        .open_with(&own_name, &flags)
        .map_err(|error| fail("creating", error))?;
    Ok(Draft {
        parent,
        file: file.into_std(),
        own_name,
        name: name.to_owned(),
        room: Some(room),
        size: 0,
        is_placed: false,
    })
}

fn append(
    folder: &Folder,
    path: &str,
    mut draft: Draft,
    pieces: &[Bytes],
) -> Result<Draft, FileError> {
    for piece in pieces {
        let length = piece.len() as u64;
        let limit = folder.options.max_file_bytes;
        if draft.size.saturating_add(length) > limit {
            return Err(folder.refuse(
                path,
                Reason::TooLarge {
                    what: "the file",
                    limit,
                },
            ));
        }
        if let Some(room) = &mut draft.room {
            room.grow(length).map_err(|_| full(folder, path))?;
        }
        draft.size += length;
        let written = draft.file.write_all(piece);
        written.map_err(|error| folder.failed("writing", path, &error))?;
    }
    Ok(draft)
}

/// Replaces the old file by one that is completely on the disk.
fn replace(
    folder: &Folder,
    path: &str,
    mut draft: Draft,
    options: WriteOptions,
) -> Result<Metadata, FileError> {
    let fail = |what, error: io::Error| folder.failed(what, path, &error);
    draft
        .file
        .sync_all()
        .map_err(|error| fail("writing", error))?;
    let parent = &draft.parent;
    let change = folder.ledger.change.lock();
    let old = old_size(folder, path, parent, &draft.name, options)?;
    let flags = match options.create_new {
        true => RenameFlags::NOREPLACE,
        false => RenameFlags::empty(),
    };
    rustix::fs::renameat_with(parent, &draft.own_name, parent, &draft.name, flags)
        .map_err(|error| fail("creating", error.into()))?;
    draft.is_placed = true;
    if let Some(room) = draft.room.take() {
        room.keep();
    }
    if let Some(size) = old {
        folder.ledger.give_back(size);
    }
    drop(change);
    sync(&draft.parent).map_err(|error| fail("writing", error))?;
    let modified = draft
        .file
        .metadata()
        .ok()
        .and_then(|metadata| metadata.modified().ok());
    Ok(Metadata {
        kind: EntryKind::File,
        size: draft.size,
        modified,
    })
}

/// Has a folder's names on the disk. Its own descriptor is one that only leads to it.
fn sync(folder: &Dir) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(folder, ".", flags, rustix::fs::Mode::empty())?;
    Ok(rustix::fs::fsync(opened)?)
}

/// The size of the file that is to be replaced, if there is one.
fn old_size(
    folder: &Folder,
    path: &str,
    parent: &Dir,
    name: &str,
    options: WriteOptions,
) -> Result<Option<u64>, FileError> {
    match parent.symlink_metadata(name) {
        Ok(_) if options.create_new => Err(FileError::Exists {
            binding: folder.options.binding.clone(),
            path: path.to_owned(),
        }),
        Ok(old) if old.is_file() => Ok(Some(old.len())),
        Ok(old) if old.is_dir() => Err(folder.kind(path, "is a folder")),
        Ok(_) => Err(folder.refuse(path, Reason::SpecialFile)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(folder.failed("looking at", path, &error)),
    }
}

/// Makes one folder, if it is not there.
pub(super) fn make_one(folder: &Folder, path: &str, at: &str) -> Result<(), FileError> {
    match folder.root.metadata(at) {
        Ok(there) if there.is_dir() => return Ok(()),
        Ok(_) => return Err(folder.kind(path, "lies in a file, or is one")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(folder.failed("looking at", path, &error)),
    }
    let limits = &folder.options;
    let room = folder
        .ledger
        .take_entry(limits.storage_limit, limits.max_entries);
    let room = room.map_err(|_| full(folder, path))?;
    match folder.root.create_dir(at) {
        Ok(()) => {
            room.keep();
            Ok(())
        }
        // Another was faster; or a link that leads nowhere lies there.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            match folder.root.metadata(at) {
                Ok(there) if there.is_dir() => Ok(()),
                _ => Err(folder.refuse(path, Reason::SpecialFile)),
            }
        }
        Err(error) => Err(folder.failed("making the folder", path, &error)),
    }
}

/// Deletes a file or an empty folder.
pub(super) fn delete(folder: &Folder, path: &str, at: &GuestPath) -> Result<bool, FileError> {
    let Some((parent, name)) = at.split() else {
        return Err(folder.refuse(path, Reason::Path));
    };
    let fail = |error: io::Error| match folder.failed("deleting", path, &error) {
        FileError::NotFound { .. } => Ok(false),
        error => Err(error),
    };
    let parent = match folder.root.open_dir(parent) {
        Ok(parent) => parent,
        Err(error) => return fail(error),
    };
    let _change = folder.ledger.change.lock();
    let there = match parent.symlink_metadata(name) {
        Ok(there) => there,
        Err(error) => return fail(error),
    };
    let (deleted, size) = if there.is_dir() {
        (parent.remove_dir(name), 0)
    } else if there.is_file() {
        (parent.remove_file(name), there.len())
    } else {
        return Err(folder.refuse(path, Reason::SpecialFile));
    };
    match deleted {
        Ok(()) => {
            folder.ledger.give_back(size);
            Ok(true)
        }
        Err(error) => fail(error),
    }
}

fn full(folder: &Folder, path: &str) -> FileError {
    let limit = folder.options.storage_limit.unwrap_or(u64::MAX);
    let held = folder.ledger.held();
    if held.entries >= folder.options.max_entries {
        let limit = folder.options.max_entries;
        return folder.refuse(path, Reason::TooMany { limit });
    }
    folder.refuse(path, Reason::Storage { limit })
}

fn random() -> String {
    let mut bytes = [0_u8; 8];
    // A name that is taken is refused by the kernel, so a bad number does no harm.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    format!("{:016x}", u64::from_ne_bytes(bytes))
}
