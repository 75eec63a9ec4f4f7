//! Sources that can be read only once: standard input, pipes, terminals.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// What such a source is called in stacks: it has no name of its own, and may be TypeScript.
pub const STREAM_NAME: &str = "stdin.ts";

/// Opens what a path names that is neither a file nor a folder: `-`, which is standard input, `/dev/stdin`, a
/// pipe. `None` for files and folders, and for what is not there.
#[must_use]
pub fn open_stream(path: &Path) -> Option<io::Result<Box<dyn Read>>> {
    let standard_input = ["-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"];
    if standard_input.iter().any(|name| path == Path::new(name)) {
        return Some(Ok(Box::new(io::stdin())));
    }
    let kind = path.metadata().ok()?.file_type();
    if kind.is_file() || kind.is_dir() {
        return None;
    }
    Some(File::open(path).map(|file| Box::new(file) as Box<dyn Read>))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_stream_files_and_folders_are_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.ts");
        std::fs::write(&file, "1").unwrap();
        for path in [folder.path(), &file, &folder.path().join("missing.ts")] {
            assert!(open_stream(path).is_none(), "{}", path.display());
        }
        assert!(open_stream(Path::new("-")).unwrap().is_ok());
        #[cfg(unix)]
        assert!(open_stream(Path::new("/dev/null")).unwrap().is_ok());
    }
}
