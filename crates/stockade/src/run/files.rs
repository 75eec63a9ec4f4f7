//! Files of a run: modules, and a folder where there are others.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path};
use std::sync::Arc;

use serde_json::json;
use stockade_transpile::Language;
use tempfile::TempDir;

use crate::granted::Grants;

/// Files of a sandbox and a run together.
pub const MAX_FILES: usize = 1000;

/// Bytes of those files.
pub const MAX_FILE_BYTES: usize = 12 << 20;

/// Bytes of a path.
const MAX_PATH_BYTES: usize = 512;

/// The name of the grant by which a guest reads files.
const GRANT: &str = "FILES";

/// Contents of files, by relative paths.
pub type Files = BTreeMap<String, Vec<u8>>;

/// What is wrong with files.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// A path leads elsewhere, or is none.
    #[error(
        "the path of the file {0:?} is not relative, or leads outside\n  fix: name files as data/prices.csv, in at most \
         {MAX_PATH_BYTES} bytes, without . and .."
    )]
    Path(String),
    /// Too many of them.
    #[error("there are {0} files, more than the limit of {MAX_FILES}")]
    TooMany(usize),
    /// Too large together.
    #[error("the files have {0} bytes, more than the limit of {MAX_FILE_BYTES}")]
    TooLarge(usize),
    /// One is both a file and a folder, or the folder cannot be written.
    #[error("cannot store the file {path:?} for the guest: {error}")]
    Store {
        /// Which one.
        path: String,
        /// Why not.
        error: std::io::Error,
    },
    /// The grant's name is taken.
    #[error(
        "files that are not modules are granted as {GRANT}, and there is a grant of this name\n  fix: rename that grant"
    )]
    Granted,
    /// The folder cannot be granted.
    #[error(transparent)]
    Grant(#[from] stockade_grants::GrantError),
}

/// Files as a guest gets them.
#[derive(Debug, Default)]
pub struct GuestFiles {
    /// What can be imported.
    pub modules: BTreeMap<String, String>,
    /// A temporary folder with all files, where some of them are not modules.
    folder: Option<Arc<TempDir>>,
}

impl GuestFiles {
    /// Checks and stores files. Blocks where some are not modules: those are written to a temporary folder.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn store(files: &Files) -> Result<Self, FilesError> {
        if files.len() > MAX_FILES {
            return Err(FilesError::TooMany(files.len()));
        }
        let bytes = files.values().map(Vec::len).sum();
        if bytes > MAX_FILE_BYTES {
            return Err(FilesError::TooLarge(bytes));
        }
        if let Some(path) = files.keys().find(|path| !is_inside(path)) {
            return Err(FilesError::Path(path.clone()));
        }
        let mut modules = BTreeMap::new();
        for (path, content) in files {
            if is_module(path)
                && let Ok(text) = std::str::from_utf8(content)
            {
                modules.insert(path.clone(), text.to_owned());
            }
        }
        let folder = match modules.len() == files.len() {
            true => None,
            false => Some(Arc::new(write(files)?)),
        };
        Ok(Self { modules, folder })
    }

    /// Adds the folder to what a guest is granted, if there is one. It is there as long as these files are.
    ///
    /// # Errors
    /// When there is another grant of its name.
    pub fn grant(&self, grants: Grants) -> Result<Grants, FilesError> {
        let Some(folder) = &self.folder else {
            return Ok(grants);
        };
        let grant = json!({ GRANT: { "files": { "path": folder.path() } } });
        let folder = Grants::from_json(&grant.to_string(), Path::new("/"))?;
        grants.and(folder).ok_or(FilesError::Granted)
    }
}

fn is_module(path: &str) -> bool {
    let path = Path::new(path);
    path.extension().is_some_and(|it| it == "json") || Language::from_path(path).is_some()
}

/// Whether a path is relative and made of names alone.
fn is_inside(path: &str) -> bool {
    let names = || Path::new(path).components();
    !path.is_empty()
        && path.len() <= MAX_PATH_BYTES
        && !path.contains(['\0', '\\'])
        && names().all(|name| matches!(name, Component::Normal(_)))
        // Neither `a//b` nor `a/./b`, which would be second names of a file.
        && names().count() == path.split('/').count()
}

fn write(files: &Files) -> Result<TempDir, FilesError> {
    let failed = |path: &str| {
        let path = path.to_owned();
        move |error| FilesError::Store { path, error }
    };
    let folder = (tempfile::Builder::new().prefix("stockade-files-"))
        .permissions(Permissions::from_mode(0o700))
        .tempdir()
        .map_err(failed(""))?;
    for (path, content) in files {
        let target = folder.path().join(path);
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent).map_err(failed(path))?;
        }
        std::fs::write(&target, content).map_err(failed(path))?;
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &[u8])]) -> Files {
        let pair = |(path, content): &(&str, &[u8])| ((*path).to_owned(), content.to_vec());
        list.iter().map(pair).collect()
    }

    #[test]
    fn files_that_are_modules_need_no_folder() {
        let stored = GuestFiles::store(&files(&[("a.ts", b"1"), ("b/c.json", b"{}")])).unwrap();
        assert_eq!(stored.modules.len(), 2);
        assert!(stored.folder.is_none());
        let stored = GuestFiles::store(&files(&[("a.ts", b"1"), ("d/e.csv", b"1,2")])).unwrap();
        let folder = stored.folder.unwrap();
        assert_eq!(
            std::fs::read(folder.path().join("d/e.csv")).unwrap(),
            b"1,2"
        );
        assert_eq!(std::fs::read(folder.path().join("a.ts")).unwrap(), b"1");
        let path = folder.path().to_owned();
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn files_that_lead_outside_are_refused() {
        for path in [
            "",
            "/etc/x",
            "../x",
            "a/../x",
            "a//b",
            "./a",
            "a/",
            "a\\b",
            "a\0b",
            &"a".repeat(600),
        ] {
            let stored = GuestFiles::store(&files(&[(path, b"")]));
            assert!(matches!(stored, Err(FilesError::Path(_))), "{path:?}");
        }
        assert!(GuestFiles::store(&files(&[("a/b..c/.d", b"")])).is_ok());
        let both = files(&[("a", b""), ("a/b", b"")]);
        assert!(matches!(
            GuestFiles::store(&both),
            Err(FilesError::Store { .. })
        ));
        let large = vec![0; MAX_FILE_BYTES + 1];
        assert!(matches!(
            GuestFiles::store(&files(&[("a", &large)])),
            Err(FilesError::TooLarge(_))
        ));
    }
}
