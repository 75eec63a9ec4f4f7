//! What is uploaded: files of an archive, or of a JSON object.
//!
//! Invariant: an archive costs no more than `most` and a fixed amount, in memory and in what is unpacked, whatever it says of
//! itself and however well it is compressed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use flate2::read::{DeflateDecoder, MultiGzDecoder};
use rawzip::{CompressionMethod, ZipArchive};
use sha2::{Digest as _, Sha256};

use super::version::VersionId;

/// Bytes that an archive has in addition to those of its files.
pub(crate) const ARCHIVE_OVERHEAD: u64 = 4 << 20;

/// Entries of an archive, folders included.
const MAX_ENTRIES: usize = 4 * MAX_FILES;

/// Files of a bundle.
const MAX_FILES: usize = 1000;

/// Bytes of a path.
const MAX_PATH: usize = 512;

/// Bytes of a name in a path (NAME_MAX, limits.h).
const MAX_NAME_BYTES: usize = 255;

/// Folders on the way to a file.
const MAX_PATH_FOLDERS: usize = 32;

/// Files by their paths, which are relative, with slashes, and have no way up.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Bundle {
    files: BTreeMap<String, Vec<u8>>,
}

/// Why something is not a bundle.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BundleError {
    #[error("the archive cannot be read: {0}")]
    Archive(std::io::Error),
    #[error("the archive cannot be read: {0}")]
    Zip(rawzip::Error),
    #[error("the archive's list of files is not complete")]
    Entries,
    #[error("the path {path:?} {why}")]
    Path { path: String, why: &'static str },
    #[error("{path:?} is {kind}; a bundle has files and folders only")]
    Kind { path: String, kind: &'static str },
    #[error("the bundle has more than {MAX_FILES} files")]
    Files,
    #[error("the files have more than {0} bytes together, the limit deployments.max_bundle")]
    Bytes(u64),
    #[error("the bundle has no file")]
    Empty,
}

impl Bundle {
    /// Reads a tar archive that is compressed with gzip. Files have at most `most` bytes together.
    pub(crate) fn from_tar_gz(archive: &[u8], most: u64) -> Result<Self, BundleError> {
        // What is unpacked beyond this is not read: the archive then ends within an entry.
        let limit = most.saturating_add(ARCHIVE_OVERHEAD);
        let mut unpacked = MultiGzDecoder::new(archive).take(limit);
        let read = Self::from_tar(&mut unpacked, most);
        match unpacked.limit() {
            0 => Err(BundleError::Bytes(most)),
            _ => read,
        }
    }

    /// Reads a zip archive. Files have at most `most` bytes together.
    pub(crate) fn from_zip(archive: &[u8], most: u64) -> Result<Self, BundleError> {
        let mut bundle = Builder::new(most);
        let zip = ZipArchive::from_slice(archive).map_err(BundleError::Zip)?;
        let mut entries = zip.entries();
        let mut seen = 0;
        while let Some(entry) = entries.next_entry().map_err(BundleError::Zip)? {
            seen += 1;
            if seen > MAX_ENTRIES {
                return Err(BundleError::Files);
            }
            let path = String::from_utf8_lossy(entry.file_path().as_ref()).into_owned();
            let mode = entry.mode().value();
            if let Some(kind) = refused_mode(mode) {
                return Err(BundleError::Kind { path, kind });
            }
            if entry.is_dir() {
                continue;
            }
            let method = entry.compression_method();
            let stored = zip.get_entry(entry.wayfinder()).map_err(BundleError::Zip)?;
            // What is read is what there is, whatever the archive says.
            let data: Box<dyn Read> = match method {
                CompressionMethod::STORE => Box::new(stored.data()),
                CompressionMethod::DEFLATE => Box::new(DeflateDecoder::new(stored.data())),
                _ => {
                    let kind = "compressed in another way than deflate, or encrypted";
                    return Err(BundleError::Kind { path, kind });
                }
            };
            let mut contents = Vec::new();
            let mut bounded = stored.verifying_reader(data).take(bundle.left + 1);
            let reading = bounded.read_to_end(&mut contents);
            reading.map_err(BundleError::Archive)?;
            bundle.check_room(contents.len() as u64)?;
            bundle.add(&path, contents)?;
        }
        // Where the list of entries ends early, readers differ in what the archive has.
        if seen as u64 != zip.entries_hint() {
            return Err(BundleError::Entries);
        }
        bundle.finish()
    }

    /// Reads a tar archive. Files have at most `most` bytes together.
    pub(crate) fn from_tar(archive: impl Read, most: u64) -> Result<Self, BundleError> {
        let mut bundle = Builder::new(most);
        let mut archive = tar::Archive::new(archive);
        let mut seen = 0;
        for entry in archive.entries().map_err(BundleError::Archive)? {
            let mut entry = entry.map_err(BundleError::Archive)?;
            // Folders count too: an archive of nothing else would be read without end.
            seen += 1;
            if seen > MAX_ENTRIES {
                return Err(BundleError::Files);
            }
            let bytes = entry.path_bytes();
            let path = String::from_utf8_lossy(&bytes).into_owned();
            let kind = entry.header().entry_type();
            if kind.is_dir() {
                continue;
            }
            if let Some(kind) = refused(kind) {
                return Err(BundleError::Kind { path, kind });
            }
            let size = entry.size();
            bundle.check_room(size)?;
            let mut contents = Vec::new();
            // The size is what the archive says; what is read is what there is.
            let reading = (&mut entry).take(size).read_to_end(&mut contents);
            reading.map_err(BundleError::Archive)?;
            bundle.add(&path, contents)?;
        }
        bundle.finish()
    }

    /// Takes texts by their paths.
    pub(crate) fn from_texts(
        texts: impl IntoIterator<Item = (String, String)>,
        most: u64,
    ) -> Result<Self, BundleError> {
        let mut bundle = Builder::new(most);
        for (path, text) in texts {
            bundle.check_room(text.len() as u64)?;
            bundle.add(&path, text.into_bytes())?;
        }
        bundle.finish()
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let files = self.files.iter();
        files.map(|(path, contents)| (path.as_str(), contents.as_slice()))
    }

    pub(crate) fn has(&self, path: &str) -> bool {
        self.files.contains_key(path)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.files
            .values()
            .map(|contents| contents.len() as u64)
            .sum()
    }

    /// SHA-256 of everything, hexadecimal: of `main`, and of each path and the digest of its contents, each behind its
    /// length.
    pub(crate) fn digest(&self, main: Option<&str>) -> String {
        let mut whole = Sha256::new();
        let mut add = |bytes: &[u8]| {
            whole.update((bytes.len() as u64).to_be_bytes());
            whole.update(bytes);
        };
        add(main.unwrap_or_default().as_bytes());
        for (path, contents) in &self.files {
            add(path.as_bytes());
            add(&Sha256::digest(contents));
        }
        whole
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// The name that a digest gives.
    pub(crate) fn id_of(digest: &str) -> Option<VersionId> {
        VersionId::parse(digest.get(..16)?)
    }
}

/// Names the kind of a file with this mode (stat(2)), if it is refused. Zip archives of other systems have no kind.
fn refused_mode(mode: u32) -> Option<&'static str> {
    match mode & 0o170_000 {
        0 | 0o100_000 | 0o040_000 => None,
        0o120_000 => Some("a symbolic link"),
        0o020_000 | 0o060_000 => Some("a device"),
        0o010_000 => Some("a pipe"),
        _ => Some("of an unknown kind"),
    }
}

/// Names the kind of an entry that is refused. Extensions that describe the next entry are read by the library.
fn refused(kind: tar::EntryType) -> Option<&'static str> {
    match kind {
        tar::EntryType::Regular | tar::EntryType::Continuous => None,
        tar::EntryType::Symlink => Some("a symbolic link"),
        tar::EntryType::Link => Some("a hard link"),
        tar::EntryType::Char | tar::EntryType::Block => Some("a device"),
        tar::EntryType::Fifo => Some("a pipe"),
        _ => Some("of an unknown kind"),
    }
}

struct Builder {
    files: BTreeMap<String, Vec<u8>>,
    left: u64,
    most: u64,
}

impl Builder {
    fn new(most: u64) -> Self {
        Self {
            files: BTreeMap::new(),
            left: most,
            most,
        }
    }

    fn check_room(&self, bytes: u64) -> Result<(), BundleError> {
        if bytes > self.left {
            return Err(BundleError::Bytes(self.most));
        }
        Ok(())
    }

    fn add(&mut self, path: &str, contents: Vec<u8>) -> Result<(), BundleError> {
        let path = path.strip_prefix("./").unwrap_or(path);
        let wrong = |why| BundleError::Path {
            path: path.chars().take(200).collect(),
            why,
        };
        check_path(path).map_err(wrong)?;
        if self.files.contains_key(path) {
            return Err(wrong("is there twice"));
        }
        if self.files.len() == MAX_FILES {
            return Err(BundleError::Files);
        }
        self.left -= (contents.len() as u64).min(self.left);
        self.files.insert(path.to_owned(), contents);
        Ok(())
    }

    fn finish(self) -> Result<Bundle, BundleError> {
        if self.files.is_empty() {
            return Err(BundleError::Empty);
        }
        // Where names have no case, one of two would take the other's place.
        let mut lower = BTreeSet::new();
        for path in self.files.keys() {
            if !lower.insert(path.to_lowercase()) {
                return Err(BundleError::Path {
                    path: path.clone(),
                    why: "differs from another one in capitals only",
                });
            }
        }
        // A name that is a file and a folder could be written in one order only.
        for path in self.files.keys() {
            let mut slashes = path.match_indices('/').map(|(at, _)| at);
            if slashes.any(|at| {
                path.get(..at)
                    .is_some_and(|folder| self.files.contains_key(folder))
            }) {
                return Err(BundleError::Path {
                    path: path.clone(),
                    why: "lies below what is a file too",
                });
            }
        }
        Ok(Bundle { files: self.files })
    }
}

/// Checks that a path names a file below the folder, in one way only.
fn check_path(path: &str) -> Result<(), &'static str> {
    if path.is_empty() || path.len() > MAX_PATH {
        return Err("is empty, or longer than 512 bytes");
    }
    if path.contains(|c: char| c.is_control() || c == '\\' || c == '\u{fffd}') {
        return Err("has a backslash, a control character, or a byte that is not UTF-8");
    }
    if path.split('/').count() > MAX_PATH_FOLDERS {
        return Err("has more than 32 folders");
    }
    for name in path.split('/') {
        match name {
            "" => return Err("is absolute, or has an empty name in it"),
            "." | ".." => return Err("has a way to another folder in it"),
            name if name.len() > MAX_NAME_BYTES => return Err("has a name of more than 255 bytes"),
            _ => {}
        }
    }
    Ok(())
}

/// Reads any bytes as an archive, for the fuzzer, and checks what is promised of a bundle: its paths lead nowhere else,
/// and it has no more bytes and files than allowed.
#[doc(hidden)]
pub fn parse_bundle(bytes: &[u8]) {
    const MOST: u64 = 4096;
    let Ok(bundle) = Bundle::from_tar(bytes, MOST) else {
        return;
    };
    assert!(bundle.bytes() <= MOST && (1..=MAX_FILES).contains(&bundle.files.len()));
    for (path, _) in bundle.files() {
        assert_eq!(check_path(path), Ok(()), "{path:?}");
    }
    assert!(Bundle::id_of(&bundle.digest(None)).is_some());
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn entry(kind: tar::EntryType, path: &[u8], contents: &[u8]) -> Vec<u8> {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(contents.len() as u64);
        header.set_mode(0o644);
        // As an attacker would: the library refuses such names.
        header.as_mut_bytes()[..path.len()].copy_from_slice(path);
        if kind.is_symlink() || kind.is_hard_link() {
            header.set_link_name("/etc/passwd").unwrap();
        }
        header.set_cksum();
        let mut out = header.as_bytes().to_vec();
        out.extend_from_slice(contents);
        out.resize(out.len().div_ceil(512) * 512, 0);
        out
    }

    fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
        let mut out = entries.concat();
        out.resize(out.len() + 1024, 0);
        out
    }

    fn read(entries: &[Vec<u8>]) -> Result<Bundle, String> {
        Bundle::from_tar(archive(entries).as_slice(), 1000).map_err(|error| error.to_string())
    }

    const FILE: tar::EntryType = tar::EntryType::Regular;

    #[test]
    fn archive_of_files_and_folders_is_read() {
        let bundle = read(&[
            entry(tar::EntryType::Directory, b"./", b""),
            entry(FILE, b"./index.ts", b"export default {};"),
            entry(tar::EntryType::Directory, b"lib/", b""),
            entry(FILE, b"lib/a.ts", b"1"),
        ])
        .unwrap();
        let files: Vec<_> = bundle.files().collect();
        assert_eq!(
            files,
            [
                ("index.ts", b"export default {};".as_slice()),
                ("lib/a.ts", b"1")
            ]
        );
        let texts = [("lib/a.ts", "1"), ("index.ts", "export default {};")];
        let texts = texts.map(|(path, text)| (path.to_owned(), text.to_owned()));
        let same = Bundle::from_texts(texts, 1000).unwrap();
        assert_eq!(bundle, same);
        assert_eq!(bundle.digest(None), same.digest(None));
        assert_ne!(bundle.digest(None), same.digest(Some("lib/a.ts")));
    }

    #[test]
    fn ways_out_of_the_folder_are_refused() {
        for path in [
            "../a.ts",
            "/etc/cron.d/x",
            "a/../../b",
            "a//b",
            "a/./b",
            "a\\..\\b",
            "..",
            ".",
            "./../x",
            "a/",
            "a\n",
            "",
            &"a/".repeat(40),
            &"a".repeat(300),
        ] {
            let text = [(path.to_owned(), "x".to_owned())];
            assert!(Bundle::from_texts(text, 1000).is_err(), "{path:?}");
            if !path.is_empty() && path.len() < 100 {
                assert!(
                    read(&[entry(FILE, path.as_bytes(), b"x")]).is_err(),
                    "{path:?}"
                );
            }
        }
        assert!(read(&[entry(FILE, b"a\xff.ts", b"x")]).is_err());
    }

    #[test]
    fn links_devices_and_doubles_are_refused() {
        for (kind, part) in [
            (tar::EntryType::Symlink, "symbolic link"),
            (tar::EntryType::Link, "hard link"),
            (tar::EntryType::Char, "device"),
            (tar::EntryType::Fifo, "pipe"),
        ] {
            let error = read(&[entry(kind, b"index.ts", b"")]).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        let twice = read(&[entry(FILE, b"a", b"1"), entry(FILE, b"./a", b"2")]).unwrap_err();
        assert!(twice.contains("twice"), "{twice}");
        let both = read(&[entry(FILE, b"a", b"1"), entry(FILE, b"a/b", b"2")]).unwrap_err();
        assert!(both.contains("is a file too"), "{both}");
    }

    #[test]
    fn size_and_number_are_bounded() {
        let large = read(&[
            entry(FILE, b"a", &[b'x'; 600]),
            entry(FILE, b"b", &[b'x'; 600]),
        ]);
        assert!(large.unwrap_err().contains("1000 bytes"));
        // The size in the header is not believed: there are no such bytes.
        let mut lies = entry(FILE, b"a", b"x");
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes().copy_from_slice(&lies[..512]);
        header.set_size(u64::MAX / 2);
        header.set_cksum();
        lies[..512].copy_from_slice(header.as_bytes());
        assert!(read(&[lies]).is_err());
        let many = (0..1001).map(|number| (number.to_string(), String::new()));
        assert!(matches!(
            Bundle::from_texts(many, 1000),
            Err(BundleError::Files)
        ));
        let folders: Vec<_> = (0..4001)
            .map(|_| entry(tar::EntryType::Directory, b"a/", b""))
            .collect();
        assert!(read(&folders).is_err());
        assert!(matches!(read(&[]), Err(why) if why.contains("no file")));
        assert!(Bundle::from_tar([b'x'; 5000].as_slice(), 1000).is_err());
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    }

    /// A zip archive of files with these names, modes and contents.
    fn zipped(files: &[(&str, u32, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut archive = rawzip::ZipArchiveWriter::new(&mut out);
        for (name, mode, contents) in files {
            if name.ends_with('/') {
                archive.new_dir(name).create().unwrap();
                continue;
            }
            // A name without a way out, of the same length: the library writes no other.
            let plain: String = name
                .chars()
                .map(|c| if "./\\".contains(c) { 'z' } else { c })
                .collect();
            let builder = archive.new_file(&plain).unix_permissions(*mode);
            let builder = builder.compression_method(CompressionMethod::DEFLATE);
            let (mut entry, config) = builder.start().unwrap();
            let level = flate2::Compression::best();
            let encoder = flate2::write::DeflateEncoder::new(&mut entry, level);
            let mut writer = config.wrap(encoder);
            writer.write_all(contents).unwrap();
            let (encoder, descriptor) = writer.finish().unwrap();
            encoder.finish().unwrap();
            entry.finish(descriptor).unwrap();
        }
        archive.finish().unwrap();
        let of_files = files.iter().filter(|(name, ..)| !name.ends_with('/'));
        for (name, ..) in of_files {
            let plain: String = name
                .chars()
                .map(|c| if "./\\".contains(c) { 'z' } else { c })
                .collect();
            rename(&mut out, &plain, name);
        }
        out
    }

    /// Gives entries another name of the same length.
    fn rename(archive: &mut [u8], from: &str, to: &str) {
        for at in 0..archive.len().saturating_sub(from.len()) {
            if !from.is_empty() && archive[at..].starts_with(from.as_bytes()) {
                archive[at..at + to.len()].copy_from_slice(to.as_bytes());
            }
        }
    }

    fn unzip(archive: &[u8]) -> Result<Bundle, String> {
        Bundle::from_zip(archive, 1000).map_err(|error| error.to_string())
    }

    #[test]
    fn all_kinds_of_archives_give_the_same_bundle() {
        let tar = archive(&[
            entry(FILE, b"index.ts", b"export default {};"),
            entry(FILE, b"public/a.css", b"a {}"),
        ]);
        let plain = Bundle::from_tar(tar.as_slice(), 1000).unwrap();
        assert_eq!(Bundle::from_tar_gz(&gzip(&tar), 1000).unwrap(), plain);
        let files = plain
            .files()
            .map(|(path, contents)| (path, 0o644, contents));
        let folder = ("public/", 0o755, b"".as_slice());
        let zip = zipped(&std::iter::once(folder).chain(files).collect::<Vec<_>>());
        assert_eq!(unzip(&zip).unwrap(), plain);
    }

    #[test]
    fn archive_that_unpacks_to_more_than_the_limit_is_refused() {
        // 64 MiB of nothing, in 64 kB.
        let nothing = vec![0; 64 << 20];
        let mut header = tar::Header::new_gnu();
        header.set_path("a").unwrap();
        header.set_size(nothing.len() as u64);
        header.set_cksum();
        let bomb = gzip(&[header.as_bytes().as_slice(), &nothing].concat());
        assert!(bomb.len() < 100_000);
        let error = Bundle::from_tar_gz(&bomb, 1000).unwrap_err();
        assert!(matches!(error, BundleError::Bytes(1000)), "{error}");
        // Behind folders, which count for nothing.
        let folders: Vec<_> = (0..3999)
            .map(|_| entry(tar::EntryType::Directory, b"a/", &[0; 4096]))
            .collect();
        let error = Bundle::from_tar_gz(&gzip(&folders.concat()), 1000).unwrap_err();
        assert!(matches!(error, BundleError::Bytes(1000)), "{error}");
        let bomb = zipped(&[("a", 0o644, &nothing)]);
        assert!(bomb.len() < 100_000);
        assert!(unzip(&bomb).unwrap_err().contains("1000 bytes"));
        let many: Vec<String> = (0..4001).map(|number| format!("d{number}/")).collect();
        let many: Vec<_> = many
            .iter()
            .map(|name| (name.as_str(), 0o755, b"".as_slice()))
            .collect();
        assert!(unzip(&zipped(&many)).unwrap_err().contains("files"));
        // Cut short, and not an archive at all.
        let half = gzip(&archive(&[entry(FILE, b"a", b"1")]));
        assert!(Bundle::from_tar_gz(&half[..half.len() / 2], 1000).is_err());
        assert!(Bundle::from_tar_gz(b"PK", 1000).is_err() && unzip(b"PK\x05\x06").is_err());
    }

    #[test]
    fn tricks_of_zip_archives_are_refused() {
        for path in ["../a.ts", "/etc/cron.d/x", "a/../../b", "a\\..\\b"] {
            assert!(unzip(&zipped(&[(path, 0o644, b"x")])).is_err(), "{path}");
        }
        let link = unzip(&zipped(&[("index.ts", 0o120_777, b"/etc/passwd")]));
        assert!(link.unwrap_err().contains("symbolic link"));
        // Two entries with the same name, of which readers take one or the other.
        let mut twice = zipped(&[("one.ts", 0o644, b"1"), ("two.ts", 0o644, b"2")]);
        rename(&mut twice, "two.ts", "one.ts");
        assert!(unzip(&twice).unwrap_err().contains("twice"));
        let case = unzip(&zipped(&[("A.ts", 0o644, b"1"), ("a.ts", 0o644, b"2")]));
        assert!(case.unwrap_err().contains("capitals"));
        assert!(unzip(&zipped(&[("a.ts", 0o644, b"1"), ("b.ts", 0o100_600, b"2")])).is_ok());
    }
}
