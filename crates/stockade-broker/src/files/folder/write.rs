//! Writing whole files, and deleting, in a granted folder.

use std::fs::File;
use std::io::{self, Write as _};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt as _};
use http_body_util::BodyExt as _;
use rustix::fs::{OFlags, RenameFlags};
use stockade_http::Body;

use super::{EntryKind, Folder, Metadata, Place, WriteOptions};
use crate::audit::Reason;
use crate::files::error::{FileError, Misfit};
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
    body: Body,
    options: WriteOptions,
) -> Result<Metadata, FileError> {
    let begun = folder.blocking(place, path.clone(), move |folder, path| {
        begin(folder, path, &at, options)
    });
    let mut draft = begun.await?;
    let mut pieces = Pieces::new(body);
    while let Some(piece) = pieces.next(&folder, &path).await? {
        draft = folder
            .blocking(place, path.clone(), move |folder, path| {
                append(folder, path, draft, &piece)
            })
            .await?;
    }
    let finish = move |folder: &Folder, path: &str| replace(folder, path, draft, options);
    folder.blocking(place, path, finish).await
}

/// A body, in pieces that are worth a write: small ones are gathered, and one that is large is not cut.
pub(super) struct Pieces {
    body: Body,
    is_end: bool,
}

impl Pieces {
    pub(super) fn new(body: Body) -> Self {
        Self {
            body,
            is_end: false,
        }
    }

    /// The next piece, which is not empty; `None` at the end.
    pub(super) async fn next(
        &mut self,
        folder: &Folder,
        path: &str,
    ) -> Result<Option<Bytes>, FileError> {
        let mut gathered = BytesMut::new();
        while gathered.len() < PIECE && !self.is_end {
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else {
                        continue;
                    };
                    if gathered.is_empty() && data.len() >= PIECE {
                        return Ok(Some(data));
                    }
                    gathered.extend_from_slice(&data);
                }
                Some(Err(error)) => {
                    return Err(FileError::Failed {
                        binding: folder.options.binding.clone(),
                        what: "receiving the data for",
                        path: path.to_owned(),
                        why: error.to_string(),
                    });
                }
                None => self.is_end = true,
            }
        }
        Ok((!gathered.is_empty()).then(|| gathered.freeze()))
    }
}

fn begin(
    folder: &Folder,
    path: &str,
    at: &GuestPath,
    options: WriteOptions,
) -> Result<Draft, FileError> {
    let Some((parent, name)) = at.split() else {
        return Err(folder.kind(path, Misfit::Folder));
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
    piece: &Bytes,
) -> Result<Draft, FileError> {
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
pub(super) fn sync(folder: &Dir) -> io::Result<()> {
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
        Ok(_) if options.create_new => Err(folder.exists(path)),
        Ok(old) if old.is_file() => Ok(Some(old.len())),
        Ok(old) if old.is_dir() => Err(folder.kind(path, Misfit::Folder)),
        Ok(_) => Err(folder.refuse(path, Reason::SpecialFile)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(folder.failed("looking at", path, &error)),
    }
}

/// Makes one folder, if it is not there.
pub(super) fn make_one(folder: &Folder, path: &str, at: &str) -> Result<(), FileError> {
    match folder.root.metadata(at) {
        Ok(there) if there.is_dir() => return Ok(()),
        Ok(_) => return Err(folder.kind(path, Misfit::NoFolder)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(folder.failed("looking at", path, &error)),
    }
    let limits = &folder.options;
    let room = folder
        .ledger
        .take_entry(limits.storage_limit, limits.max_entries);
    let room = room.map_err(|_| full(folder, path))?;
    // No folder appears in one that is being moved.
    let _change = folder.ledger.change.lock();
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

pub(super) fn full(folder: &Folder, path: &str) -> FileError {
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
