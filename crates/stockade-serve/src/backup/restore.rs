//! Restores a backup, or checks that it could be.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, Gid, Mode, OFlags, RenameFlags, Uid, chownat, fchown, openat, renameat_with,
};
use rustix::io::Errno;
use stockade_auth::{Pepper, Quotas};
use stockade_config::Config;

use super::archive;
use super::database::{self, sibling};
use super::store::{Kind, Store, stores};
use super::take::sync_folder_of;
use super::{BackupError, archive::About};
use crate::deployments::DeploymentStore;

/// Behind the path of a store while it is not in its place yet.
const STAGED: &str = ".restored";

/// Behind the path of what a store has replaced.
const REPLACED: &str = ".replaced";

/// How a backup is restored.
#[derive(Debug, Clone, Copy, Default)]
pub struct RestoreOptions {
    /// Replaces what is there, and keeps it with the suffix `.replaced`.
    pub replace: bool,
    /// Reads and opens everything, and puts nothing into its place.
    pub check: bool,
}

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// When the backup was begun, RFC 3339 in UTC.
    pub made: String,
    /// The stores, by their paths.
    pub stores: Vec<PathBuf>,
    /// Names of stores in the backup that the configuration does not have.
    pub left_out: Vec<String>,
}

/// Restores a backup into the places that a configuration names.
///
/// # Errors
/// When a server of this configuration runs, the backup is damaged, or something is in a store's place. Then nothing has changed,
/// unless the system refused a rename: stores that were renamed before are restored then, and the restore can be repeated.
pub fn restore(
    config: &Config,
    from: impl Read,
    options: RestoreOptions,
) -> Result<Restored, BackupError> {
    // Step 1: no server may open a store meanwhile.
    let _lock = if options.check {
        None
    } else {
        if UnixStream::connect(&config.control).is_ok() {
            return Err(BackupError::Running {
                path: config.control.clone(),
            });
        }
        make_place_of(&config.state)?;
        let lock = stockade_state::lock(&config.state)?;
        give(&sibling(&config.state, ".lock"), &config.state)?;
        Some(lock)
    };

    // Step 2: everything that the backup has, next to its place.
    let mut staging = Staging {
        known: stores(config),
        may_exist: options.check || options.replace,
        staged: Vec::new(),
        left_out: Vec::new(),
    };
    let about: About = archive::read(from, |path, contents| staging.take(path, contents))?;

    // Step 3: whether it is what the server can use.
    staging.verify(config)?;
    let restored = Restored {
        made: about.made,
        stores: (staging.staged.iter())
            .map(|store| store.path.clone())
            .collect(),
        left_out: std::mem::take(&mut staging.left_out),
    };
    if options.check {
        return Ok(restored);
    }

    // Step 4: into their places.
    for store in &staging.staged {
        put(store)?;
    }
    Ok(restored)
}

/// What is unpacked and not in its place yet. It is removed when this is dropped.
struct Staging {
    known: Vec<Store>,
    /// Whether there may be something in the places of stores.
    may_exist: bool,
    staged: Vec<Store>,
    left_out: Vec<String>,
}

impl Staging {
    /// Unpacks a file of the archive.
    fn take(&mut self, path: &str, contents: &mut dyn Read) -> Result<(), BackupError> {
        let found = self.known.iter().find_map(|store| {
            let rest = path.strip_prefix(store.name)?;
            match (store.kind, rest.strip_prefix('/')) {
                (Kind::Folder, Some(rest)) => Some((store.clone(), Some(rest.to_owned()))),
                (Kind::Database | Kind::File, None) if rest.is_empty() => {
                    Some((store.clone(), None))
                }
                _ => None,
            }
        });
        let Some((store, rest)) = found else {
            let name = path.split('/').next().unwrap_or(path).to_owned();
            if self.left_out.last() != Some(&name) {
                self.left_out.push(name);
            }
            let drained = io::copy(contents, &mut io::sink());
            return drained
                .map(drop)
                .map_err(|error| BackupError::damaged("the archive", &error));
        };
        let root = sibling(&store.path, STAGED);
        if !self.staged.contains(&store) {
            if !self.may_exist && store.path.symlink_metadata().is_ok() {
                return Err(BackupError::Exists { path: store.path });
            }
            make_place_of(&store.path)?;
            remove(&root)?;
            self.staged.push(store);
        }
        let target = match rest {
            Some(rest) => root.join(rest),
            None => root,
        };
        make_folder_of(&target)?;
        let failed = |error| BackupError::file(&target, "unpacking it")(error);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&target)
            .map_err(failed)?;
        io::copy(contents, &mut file).map_err(failed)?;
        file.sync_all().map_err(failed)
    }

    fn at(&self, name: &str) -> Option<PathBuf> {
        let store = self.staged.iter().find(|store| store.name == name)?;
        Some(sibling(&store.path, STAGED))
    }

    /// Opens each store as the server does.
    fn verify(&self, config: &Config) -> Result<(), BackupError> {
        for store in &self.staged {
            if store.kind == Kind::Database {
                database::check(&sibling(&store.path, STAGED))?;
            }
        }
        if let Some(state) = self.at("state.db") {
            stockade_state::verify(&state)?;
        }
        if let Some(keys) = self.at("keys.db") {
            let wrong = |error: &dyn std::fmt::Display| BackupError::damaged("keys.db", error);
            let pepper = self.at("keys.pepper");
            let pepper = pepper.as_ref().unwrap_or(&config.api_keys.pepper);
            let variable = config.api_keys.pepper_variable.as_deref();
            // None is made: no key was hashed with a new one.
            let pepper = match variable {
                Some(_) => Pepper::load(pepper, variable),
                None => Pepper::read(pepper),
            };
            let pepper = pepper.map_err(|error| wrong(&error))?;
            stockade_auth::Store::open(&keys, pepper).map_err(|error| wrong(&error))?;
        }
        if let Some(quotas) = self.at("quotas.db") {
            let opened = Quotas::open(&quotas, config.limits.rate_counters);
            opened.map_err(|error| BackupError::damaged("quotas.db", &error))?;
        }
        if let Some(usage) = self.at("usage.db") {
            let opened = stockade_usage::Store::open_to_read(&usage);
            opened.map_err(|error| BackupError::damaged("usage.db", &error))?;
        }
        if let Some(folder) = self.at("deployments") {
            DeploymentStore::open(&folder)?.verify()?;
        }
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        for store in &self.staged {
            let staged = sibling(&store.path, STAGED);
            for suffix in ["", "-wal", "-shm", ".lock"] {
                // Of what is in its place, there is nothing here.
                let _ = remove(&sibling(&staged, suffix));
            }
        }
    }
}

/// Puts an unpacked store into its place. At each instant the old one or the new one is there.
fn put(store: &Store) -> Result<(), BackupError> {
    let (target, staged) = (&store.path, sibling(&store.path, STAGED));
    give(&staged, target)?;
    let failed = |error| BackupError::file(target, "replacing it")(error);
    if target.symlink_metadata().is_err() {
        fs::rename(&staged, target).map_err(failed)?;
        return sync_folder_of(target);
    }
    let kept = sibling(target, REPLACED);
    for suffix in ["", "-wal"] {
        remove(&sibling(&kept, suffix))?;
    }
    if store.kind == Kind::Database {
        // A log that is left would be taken for the new file's.
        database::settle(target);
        let log = sibling(target, "-wal");
        if log.exists() {
            fs::rename(&log, sibling(&kept, "-wal")).map_err(failed)?;
        }
        remove(&sibling(target, "-shm"))?;
    }
    renameat_with(CWD, &staged, CWD, target, RenameFlags::EXCHANGE)
        .map_err(|error| failed(error.into()))?;
    fs::rename(&staged, &kept).map_err(failed)?;
    sync_folder_of(target)
}

/// Gives what root has unpacked to whom the folder of its place belongs to.
fn give(staged: &Path, target: &Path) -> Result<(), BackupError> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let folder = target.parent().unwrap_or(Path::new("/"));
    let failed = |error| BackupError::file(staged, "giving it to the owner of its folder")(error);
    let owner = fs::metadata(folder).map_err(failed)?;
    let owner = (Uid::from_raw(owner.uid()), Gid::from_raw(owner.gid()));
    give_in(CWD, staged.as_os_str(), owner).map_err(|error| failed(error.into()))
}

/// Gives away what has this name in a folder, and everything in it first. The new owner may be hostile: nothing is reached
/// through a link, and a folder is not theirs as long as something in it is to be given.
fn give_in(folder: BorrowedFd<'_>, name: &OsStr, owner: (Uid, Gid)) -> rustix::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(folder, name, flags, Mode::empty()) {
        Ok(inner) => {
            for entry in Dir::read_from(&inner)? {
                let entry = entry?;
                let name = entry.file_name().to_bytes();
                if !matches!(name, b"." | b"..") {
                    give_in(inner.as_fd(), OsStr::from_bytes(name), owner)?;
                }
            }
            fchown(&inner, Some(owner.0), Some(owner.1))
        }
        // Something else, or a link.
        Err(Errno::NOTDIR | Errno::LOOP) => {
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            chownat(folder, name, Some(owner.0), Some(owner.1), flags)
        }
        Err(error) => Err(error),
    }
}

/// Makes the folder of a store where it is missing, with those above it, for the owner of what is there already.
fn make_place_of(path: &Path) -> Result<(), BackupError> {
    let is_missing =
        |folder: &&Path| !folder.as_os_str().is_empty() && folder.symlink_metadata().is_err();
    let topmost = path.ancestors().skip(1).take_while(is_missing).last();
    make_folder_of(path)?;
    topmost.map_or(Ok(()), |made| give(made, made))
}

fn make_folder_of(path: &Path) -> Result<(), BackupError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(BackupError::file(folder, "making it"))
}

/// Removes a file or a folder, if there is one.
fn remove(path: &Path) -> Result<(), BackupError> {
    let removed = match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => Err(error),
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    };
    removed.map_err(BackupError::file(path, "removing it"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_is_given_away_through_a_link() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("given/inner")).unwrap();
        fs::create_dir(at("other")).unwrap();
        for name in ["given/inner/a", "other/secret"] {
            fs::write(at(name), "").unwrap();
        }
        symlink(at("other"), at("given/inner/folder")).unwrap();
        symlink(at("other/secret"), at("given/inner/file")).unwrap();
        let owner = (Uid::from_raw(1), Gid::from_raw(1));
        give_in(CWD, at("given").as_os_str(), owner).unwrap();
        for (name, user) in [
            ("given", 1),
            ("given/inner", 1),
            ("given/inner/a", 1),
            ("given/inner/folder", 1),
            ("other", 0),
            ("other/secret", 0),
        ] {
            assert_eq!(at(name).symlink_metadata().unwrap().uid(), user, "{name}");
        }
    }
}
