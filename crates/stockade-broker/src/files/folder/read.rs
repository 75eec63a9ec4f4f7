//! Reading a file of a granted folder.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use cap_std::fs::{OpenOptions, OpenOptionsExt as _};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use rustix::fs::OFlags;
use stockade_http::{Body, BoxError};

use super::{EntryKind, Folder, Metadata, Place};
use crate::audit::Reason;
use crate::files::error::{FileError, Misfit};
use crate::files::path::GuestPath;

/// Bytes that are read at once.
const PIECE: usize = 64 * 1024;

/// Opens a regular file. A pipe is not waited for, a device not touched.
pub(super) fn open(
    folder: &Folder,
    path: &str,
    at: &GuestPath,
) -> Result<(File, Metadata), FileError> {
    // Checked before it is opened, since opening a device can have effects.
    if folder.metadata(path, at)?.kind == EntryKind::Folder {
        return Err(folder.kind(path, Misfit::Folder));
    }
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut options = OpenOptions::new();
    options
        .read(true)
        .custom_flags(i32::try_from(flags.bits()).unwrap_or(0));
    let file = folder.root.open_with(at.as_str(), &options);
    let file = file.map_err(|error| folder.failed("opening", path, &error))?;
    let raw = file
        .metadata()
        .map_err(|error| folder.failed("looking at", path, &error))?;
    match Metadata::of(&raw) {
        Some(metadata) if metadata.kind == EntryKind::File => Ok((file.into_std(), metadata)),
        _ => Err(folder.refuse(path, Reason::SpecialFile)),
    }
}

struct Reading {
    folder: Arc<Folder>,
    path: String,
    file: Arc<File>,
    at: u64,
    end: u64,
    place: Place,
}

/// A range of a file. Its place among the operations is free when the stream is gone.
pub(super) fn stream(
    folder: Arc<Folder>,
    path: String,
    file: File,
    size: u64,
    range: Option<Range<u64>>,
    place: Place,
) -> Body {
    let range = range.unwrap_or(0..size);
    let (at, end) = (range.start.min(size), range.end.min(size));
    let reading = Reading {
        folder,
        path,
        file: Arc::new(file),
        at,
        end,
        place,
    };
    let pieces = futures_util::stream::try_unfold(reading, |mut reading| async move {
        match piece(&reading).await? {
            Some(bytes) => {
                reading.at += bytes.len() as u64;
                Ok::<_, BoxError>(Some((Frame::data(bytes), reading)))
            }
            None => Ok(None),
        }
    });
    StreamBody::new(pieces).boxed_unsync()
}

async fn piece(reading: &Reading) -> Result<Option<Bytes>, FileError> {
    let left = usize::try_from(reading.end.saturating_sub(reading.at)).unwrap_or(usize::MAX);
    if left == 0 {
        return Ok(None);
    }
    let (file, at) = (reading.file.clone(), reading.at);
    let read = move |folder: &Folder, path: &str| {
        let mut buffer = vec![0; left.min(PIECE)];
        let length = match file.read_at(&mut buffer, at) {
            // The file has become shorter meanwhile.
            Ok(0) => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            other => other,
        };
        let length = length.map_err(|error| folder.failed("reading", path, &error))?;
        buffer.truncate(length);
        Ok(Some(Bytes::from(buffer)))
    };
    let place = &reading.place;
    reading
        .folder
        .blocking(place, reading.path.clone(), read)
        .await
}
