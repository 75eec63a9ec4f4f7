//! Files that a command line names: read within a bound, whatever they are.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The bytes of a file or a pipe of at most `most` bytes. No more than that is read.
///
/// # Errors
/// When it cannot be read, or is larger.
pub(super) fn read_bytes(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    bounded(File::open(path)?, most)
}

/// The text of a file or a pipe of at most `most` bytes.
///
/// # Errors
/// Those of [`read_bytes`], and when it is not UTF-8.
pub(super) fn read_text(path: &Path, most: u64) -> io::Result<String> {
    as_text(read_bytes(path, most)?)
}

/// The text of a file, or of standard input where the path is `-`.
///
/// # Errors
/// Those of [`read_text`].
pub(super) fn read_text_or_input(path: &Path, most: u64) -> io::Result<String> {
    match path == Path::new("-") {
        true => as_text(bounded(io::stdin().lock(), most)?),
        false => read_text(path, most),
    }
}

fn bounded(from: impl Read, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > most {
        true => Err(io::Error::other(format!("it is larger than {most} bytes"))),
        false => Ok(bytes),
    }
}

fn as_text(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8 text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_is_read_to_its_bound_and_a_device_without_end_is_too_large() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "abc").unwrap();
        assert_eq!(read_text(&path, 3).unwrap(), "abc");
        let error = |path: &Path| read_text(path, 2).unwrap_err().to_string();
        assert_eq!(error(&path), "it is larger than 2 bytes");
        assert_eq!(error(Path::new("/dev/zero")), "it is larger than 2 bytes");
        std::fs::write(&path, [0xff]).unwrap();
        assert_eq!(error(&path), "it is not UTF-8 text");
        assert!(read_bytes(folder.path(), 2).is_err());
    }
}
