//! Changing a part of a file of a granted folder.
//!
//! Readers see each piece when it is written: nothing here is all or nothing, except that one piece is never mixed
//! with one of another guest. What a file grows by is taken from the storage before it is written, and what was not
//! written after all is given back.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::sync::Arc;

use bytes::Bytes;
use cap_std::fs::{OpenOptions, OpenOptionsExt as _};
use rustix::fs::OFlags;
use stockade_http::Body;

use super::write::{Pieces, full, make_one, sync};
use super::{EntryKind, Folder, Metadata, Place, WriteOptions};
use crate::audit::Reason;
use crate::files::error::{FileError, Misfit};
use crate::files::path::GuestPath;

/// Where in a file data is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// After what is there when a piece is written.
    End,
    /// From this byte on. What lies between the end of the file and it becomes zeros, which count as stored.
    Byte(u64),
}

/// Writes a body to a part of a file, which is made if it is not there.
pub(super) async fn write(
    folder: Arc<Folder>,
    place: &Place,
    path: String,
    to: GuestPath,
    body: Body,
    at: At,
    options: WriteOptions,
) -> Result<Metadata, FileError> {
    let opening = folder.blocking(place, path.clone(), move |folder, path| {
        open(folder, path, &to, options)
    });
    let file = Arc::new(opening.await?);
    let mut pieces = Pieces::new(body);
    let mut at = at;
    while let Some(piece) = pieces.next(&folder, &path).await? {
        let file = Arc::clone(&file);
        let writing = folder.blocking(place, path.clone(), move |folder, path| {
            write_piece(folder, path, &file, &piece, at)
        });
        at = writing.await?;
    }
    let finish = move |folder: &Folder, path: &str| finish(folder, path, &file);
    folder.blocking(place, path, finish).await
}

/// Cuts a file to a size, or fills it up with zeros.
pub(super) fn truncate(
    folder: &Folder,
    path: &str,
    at: &GuestPath,
    size: u64,
) -> Result<Metadata, FileError> {
    let file = open_existing(folder, path, at)?;
    {
        let _change = folder.ledger.change.lock();
        let old = size_of(folder, path, &file)?;
        let reserved = reserve(folder, path, old, size)?;
        let cut = file.set_len(size);
        settle(folder, &file, old, reserved);
        cut.map_err(|error| folder.failed("writing", path, &error))?;
    }
    finish(folder, path, &file)
}

/// Opens a regular file for writing, or makes it.
fn open(
    folder: &Folder,
    path: &str,
    at: &GuestPath,
    options: WriteOptions,
) -> Result<File, FileError> {
    if at.split().is_none() {
        return Err(folder.kind(path, Misfit::Folder));
    }
    if options.make_folders {
        for ancestor in at.ancestors() {
            make_one(folder, path, ancestor)?;
        }
    }
    let limits = &folder.options;
    let mut flags = OpenOptions::new();
    flags.write(true).create_new(true).mode(0o644);
    let room = match folder.root.symlink_metadata(at.as_str()) {
        Ok(_) => None,
        Err(_) => {
            let room = folder
                .ledger
                .take_entry(limits.storage_limit, limits.max_entries);
            Some(room.map_err(|_| full(folder, path))?)
        }
    };
    let Some(room) = room else {
        if options.create_new {
            return Err(folder.exists(path));
        }
        return open_existing(folder, path, at);
    };
    // It appears at no moment in which another name is put in its place, which would not count it.
    let change = folder.ledger.change.lock();
    let made = folder.root.open_with(at.as_str(), &flags);
    drop(change);
    match made {
        Ok(made) => {
            room.keep();
            Ok(made.into_std())
        }
        // Another was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && !options.create_new => {
            open_existing(folder, path, at)
        }
        Err(error) => Err(folder.failed("creating", path, &error)),
    }
}

/// A file with further names may have one outside the folder, where a change in place would be seen.
fn open_existing(folder: &Folder, path: &str, at: &GuestPath) -> Result<File, FileError> {
    // Checked before it is opened, since opening a device can have effects.
    if folder.metadata(path, at)?.kind == EntryKind::Folder {
        return Err(folder.kind(path, Misfit::Folder));
    }
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut options = OpenOptions::new();
    options
        .write(true)
        .custom_flags(i32::try_from(flags.bits()).unwrap_or(0));
    let file = folder.root.open_with(at.as_str(), &options);
    let file = file.map_err(|error| folder.failed("opening", path, &error))?;
    let file = file.into_std();
    let raw = file
        .metadata()
        .map_err(|error| folder.failed("looking at", path, &error))?;
    if !raw.is_file() {
        return Err(folder.refuse(path, Reason::SpecialFile));
    }
    if raw.nlink() > 1 {
        return Err(folder.refuse(path, Reason::HardLinks));
    }
    Ok(file)
}

/// Writes one piece; gives where the next one goes.
fn write_piece(
    folder: &Folder,
    path: &str,
    file: &File,
    piece: &Bytes,
    at: At,
) -> Result<At, FileError> {
    let _change = folder.ledger.change.lock();
    let old = size_of(folder, path, file)?;
    let start = match at {
        At::End => old,
        At::Byte(start) => start,
    };
    let end = start.saturating_add(piece.len() as u64);
    let reserved = reserve(folder, path, old, end.max(old))?;
    let written = file.write_all_at(piece, start);
    settle(folder, file, old, reserved);
    written.map_err(|error| folder.failed("writing", path, &error))?;
    Ok(match at {
        At::End => At::End,
        At::Byte(_) => At::Byte(end),
    })
}

/// The size of a file that still has a name: what is written to one without is lost, and counts for nobody.
fn size_of(folder: &Folder, path: &str, file: &File) -> Result<u64, FileError> {
    let raw = file
        .metadata()
        .map_err(|error| folder.failed("looking at", path, &error))?;
    match raw.nlink() {
        0 => Err(folder.kind(path, Misfit::Gone)),
        1 => Ok(raw.len()),
        _ => Err(folder.refuse(path, Reason::HardLinks)),
    }
}

/// Takes what a file of `old` bytes grows by; gives how much that is.
fn reserve(folder: &Folder, path: &str, old: u64, size: u64) -> Result<u64, FileError> {
    let limit = folder.options.max_file_bytes;
    if size > limit && size > old {
        return Err(folder.refuse(
            path,
            Reason::TooLarge {
                what: "the file",
                limit,
            },
        ));
    }
    let growth = size.saturating_sub(old);
    let taken = folder.ledger.take(growth, folder.options.storage_limit);
    taken.map_err(|_| full(folder, path))?;
    Ok(growth)
}

/// Makes the ledger agree with what the file is now, after `reserved` was taken for it.
fn settle(folder: &Folder, file: &File, old: u64, reserved: u64) {
    let now = file.metadata().map_or(old + reserved, |raw| raw.len());
    folder.ledger.release((old + reserved).saturating_sub(now));
}

/// Has a file on the disk, with its name.
fn finish(folder: &Folder, path: &str, file: &File) -> Result<Metadata, FileError> {
    let fail = |error: io::Error| folder.failed("writing", path, &error);
    file.sync_all().map_err(fail)?;
    if let Some(parent) = GuestPath::parse(path).and_then(|at| {
        let (parent, _) = at.split()?;
        folder.root.open_dir(parent).ok()
    }) {
        sync(&parent).map_err(fail)?;
    }
    let raw = file.metadata().map_err(fail)?;
    Ok(Metadata {
        kind: EntryKind::File,
        size: raw.len(),
        modified: raw.modified().ok(),
    })
}
