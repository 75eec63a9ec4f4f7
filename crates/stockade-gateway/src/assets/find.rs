//! From a URL's path to an open file.

use std::fs::File;
use std::io;
use std::time::SystemTime;

use cap_std::fs::{Dir, Metadata, MetadataExt};
use percent_encoding::percent_decode_str;

use super::coding::Coding;

/// Too many links, or links in a circle (errno(3)); the standard library has no stable name for it.
const ELOOP: i32 = 40;

/// What a path leads to.
#[derive(Debug)]
pub(super) enum FolderEntry {
    File(OpenFile),
    /// A folder, asked for without the slash at its end.
    Folder,
    Nothing,
}

/// A file that may be served.
#[derive(Debug)]
pub(super) struct OpenFile {
    pub(super) file: File,
    pub(super) length: u64,
    pub(super) modified: Option<SystemTime>,
    pub(super) inode: u64,
    /// Relative to the folder.
    pub(super) path: String,
    pub(super) content_type: String,
    /// How it is compressed on the disk.
    pub(super) coding: Option<Coding>,
    /// A compressed form lies in the same folder, whether the client takes it or not.
    pub(super) precompressed: bool,
}

/// The path within the folder; none if no file can have it. Empty for the folder itself; ends in a slash
/// if the URL does.
pub(super) fn relative(url: &str) -> Option<String> {
    let rest = url.strip_prefix('/')?;
    let last = rest.matches('/').count();
    let mut path = String::with_capacity(rest.len());
    for (number, segment) in rest.split('/').enumerate() {
        if number > 0 {
            path.push('/');
        }
        let segment = percent_decode_str(segment).decode_utf8().ok()?;
        let hidden = segment.starts_with('.') && segment != ".well-known";
        let strange = segment
            .chars()
            .any(|c| matches!(c, '/' | '\\') || c.is_control());
        let empty = segment.is_empty() && number < last;
        if hidden || strange || empty {
            return None;
        }
        path.push_str(&segment);
    }
    Some(path)
}

/// Looks for a file. Blocks.
pub(super) fn find(
    folder: &Dir,
    path: &str,
    index: &str,
    codings: &[Coding],
) -> io::Result<FolderEntry> {
    if path.is_empty() || path.ends_with('/') {
        return open(folder, &format!("{path}{index}"), codings);
    }
    match look(folder, path)? {
        Some(metadata) if metadata.is_dir() => {
            // Without an index there is nothing to be redirected to.
            let index = look(folder, &format!("{path}/{index}"))?;
            let there = index.is_some_and(|index| index.is_file());
            Ok(if there {
                FolderEntry::Folder
            } else {
                FolderEntry::Nothing
            })
        }
        Some(metadata) if metadata.is_file() => open(folder, path, codings),
        _ => Ok(FolderEntry::Nothing),
    }
}

fn open(folder: &Dir, path: &str, codings: &[Coding]) -> io::Result<FolderEntry> {
    let Some(metadata) = look(folder, path)?.filter(Metadata::is_file) else {
        return Ok(FolderEntry::Nothing);
    };
    let mut opened = match folder.open(path) {
        Ok(file) => OpenFile {
            length: metadata.len(),
            modified: modified(&metadata),
            inode: metadata.ino(),
            path: path.to_owned(),
            content_type: content_type(path),
            coding: None,
            precompressed: false,
            file: file.into_std(),
        },
        Err(error) if is_absence(&error) => return Ok(FolderEntry::Nothing),
        Err(error) => return Err(error),
    };
    // What is read is what was opened, whatever has its name by now.
    let now = opened.file.metadata()?;
    if !now.is_file() {
        return Ok(FolderEntry::Nothing);
    }
    opened.length = now.len();
    for coding in Coding::ALL {
        let sibling = format!("{path}.{}", coding.suffix());
        let Some(other) = look(folder, &sibling)?.filter(Metadata::is_file) else {
            continue;
        };
        // One that is older than the file is of another version of it.
        if modified(&other) < opened.modified {
            continue;
        }
        opened.precompressed = true;
        if codings.contains(&coding)
            && opened.coding.is_none()
            && let Ok(file) = folder.open(&sibling)
        {
            opened.file = file.into_std();
            opened.length = opened.file.metadata()?.len();
            opened.modified = modified(&other);
            opened.inode = other.ino();
            opened.coding = Some(coding);
        }
    }
    Ok(FolderEntry::File(opened))
}

fn modified(metadata: &Metadata) -> Option<SystemTime> {
    metadata
        .modified()
        .ok()
        .map(cap_std::time::SystemTime::into_std)
}

fn look(folder: &Dir, path: &str) -> io::Result<Option<Metadata>> {
    match folder.metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if is_absence(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Errors that mean that there is nothing to serve: also a link that leads out of the folder or in a
/// circle, and a name that no file can have.
fn is_absence(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidFilename, InvalidInput, NotADirectory, NotFound, PermissionDenied};
    matches!(
        error.kind(),
        InvalidFilename | InvalidInput | NotADirectory | NotFound | PermissionDenied
    ) || error.raw_os_error() == Some(ELOOP)
}

/// Text is UTF-8.
fn content_type(path: &str) -> String {
    let kind = mime_guess::from_path(path).first_or_octet_stream();
    match kind.essence_str() {
        // RFC 9239 made the older names obsolete.
        "application/javascript" => "text/javascript; charset=utf-8".to_owned(),
        kind if kind.starts_with("text/") => format!("{kind}; charset=utf-8"),
        kind => kind.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_of_a_url_stays_within_the_folder() {
        let check =
            |url, expected: Option<&str>| assert_eq!(relative(url).as_deref(), expected, "{url}");
        check("/", Some(""));
        check("/a/b.txt", Some("a/b.txt"));
        check("/a/", Some("a/"));
        check("/%C3%A9%20x", Some("é x"));
        check(
            "/.well-known/security.txt",
            Some(".well-known/security.txt"),
        );
        check("/.git/config", None);
        check("/a/.env", None);
        check("/..", None);
        check("/a/%2e%2e/b", None);
        check("/a%2Fb", None);
        check("/a%5Cb", None);
        check("/a%00", None);
        check("/%ff", None);
        check("/a//b", None);
        check("//", None);
        check("", None);
    }

    #[test]
    fn content_type_of_text_names_its_encoding() {
        let check = |path, expected| assert_eq!(content_type(path), expected);
        check("a.html", "text/html; charset=utf-8");
        check("a.js", "text/javascript; charset=utf-8");
        check("a.mjs", "text/javascript; charset=utf-8");
        check("a.json", "application/json");
        check("a.svg", "image/svg+xml");
        check("a.wasm", "application/wasm");
        check("a", "application/octet-stream");
    }
}
