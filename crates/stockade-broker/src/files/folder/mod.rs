//! A granted folder and what a guest may do in it.

mod in_place;
mod read;
mod rename;
mod watch;
mod write;

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, Metadata as RawMetadata};
use stockade_http::Body;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::{FileError, Misfit};
use super::path::{GuestPath, is_name};
use super::storage::{Ledger, Ledgers};
use crate::audit::{Action, Audit, Reason, Refusal};
use watch::MOST_FOLDERS;
pub(crate) use watch::Watcher;
pub use watch::{ChangeKind, FileChange, FileChanges, StopChanges};

/// Entries that a listing gives at once.
const MOST_LISTED: usize = 1000;
/// Names that are read for one listing.
const MOST_LOOKED_AT: usize = 1_000_000;
/// How long an operation waits for earlier ones.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a guest may do in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// List, stat and read.
    Read,
    /// Write, delete and make folders as well.
    Write,
}

/// A grant.
#[derive(Clone, Debug)]
pub struct FolderOptions {
    /// The binding's name in the guest's environment, for messages.
    pub binding: String,
    /// The folder. May be a symbolic link itself; nothing inside leads out of it.
    pub path: PathBuf,
    /// What may be done.
    pub mode: Mode,
    /// Bytes of all files together, 512 added for each file and folder; `None` for no limit. A file
    /// that takes another's place needs room in addition to it.
    pub storage_limit: Option<u64>,
    /// Bytes of one file that is written.
    pub max_file_bytes: u64,
    /// Files and folders in all that writing may lead to.
    pub max_entries: u64,
    /// Operations at the same time, until the end of what they read; more wait for 30 seconds.
    pub concurrent: usize,
}

impl FolderOptions {
    /// A grant with default bounds: 1 GiB in 100,000 files and folders, 256 MiB a file, 32 operations
    /// at the same time.
    #[must_use]
    pub fn new(binding: &str, path: PathBuf, mode: Mode) -> Self {
        Self {
            binding: binding.to_owned(),
            path,
            mode,
            storage_limit: Some(1024 * 1024 * 1024),
            max_file_bytes: 256 * 1024 * 1024,
            max_entries: 100_000,
            concurrent: 32,
        }
    }
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
}

/// What is known of a file or folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// What it is.
    pub kind: EntryKind,
    /// Bytes; 0 for a folder.
    pub size: u64,
    /// When it was last written.
    pub modified: Option<SystemTime>,
}

impl Metadata {
    /// `None` for what is neither file nor folder.
    pub(super) fn of(raw: &RawMetadata) -> Option<Self> {
        let modified = raw.modified().ok().map(cap_std::time::SystemTime::into_std);
        if raw.is_file() {
            Some(Self {
                kind: EntryKind::File,
                size: raw.len(),
                modified,
            })
        } else if raw.is_dir() {
            Some(Self {
                kind: EntryKind::Folder,
                size: 0,
                modified,
            })
        } else {
            None
        }
    }
}

/// A file or folder in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderEntry {
    /// Its name in the listed folder.
    pub name: String,
    /// What is known of it.
    pub metadata: Metadata,
}

/// Entries of a folder, ordered by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Up to the limit asked for.
    pub entries: Vec<FolderEntry>,
    /// There are more after the last one.
    pub more: bool,
}

/// How a file is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// Fails if it is there already.
    pub create_new: bool,
    /// Makes the folders that it lies in.
    pub make_folders: bool,
}

/// One operation's place among those of a folder, kept by its work on another thread.
pub(super) type Place = Arc<OwnedSemaphorePermit>;

/// A granted folder. All paths are relative to it, with `/` between names.
pub struct Folder {
    pub(super) instance: Arc<str>,
    pub(super) audit: Arc<dyn Audit>,
    pub(super) options: FolderOptions,
    pub(super) root: Dir,
    pub(super) ledger: Arc<Ledger>,
    places: Arc<Semaphore>,
    watcher: Arc<Watcher>,
}

impl Folder {
    pub(crate) fn open(
        instance: Arc<str>,
        options: FolderOptions,
        audit: Arc<dyn Audit>,
        ledgers: &Ledgers,
        watcher: Arc<Watcher>,
    ) -> Result<Arc<Self>, FileError> {
        let fail = |what, error: io::Error| FileError::Failed {
            binding: options.binding.clone(),
            what,
            path: options.path.display().to_string(),
            why: error.to_string(),
        };
        let root = Dir::open_ambient_dir(&options.path, ambient_authority())
            .map_err(|error| fail("opening the folder", error))?;
        let ledger = match options.mode {
            Mode::Read => Arc::default(),
            Mode::Write => ledgers
                .of(&root)
                .map_err(|error| fail("counting the folder", error))?,
        };
        let places = Arc::new(Semaphore::new(
            options.concurrent.min(Semaphore::MAX_PERMITS),
        ));
        Ok(Arc::new(Self {
            instance,
            audit,
            options,
            root,
            ledger,
            places,
            watcher,
        }))
    }

    /// What is known of a file or folder; `""` is the granted folder itself.
    ///
    /// # Errors
    /// It does not exist, or access is denied.
    pub async fn stat(self: Arc<Self>, path: String) -> Result<Metadata, FileError> {
        let checked = self.path(&path)?;
        self.work(path, move |folder, path| folder.metadata(path, &checked))
            .await
    }

    /// Entries of a folder by name, those after `after`, at most `limit` and 1,000. What is neither
    /// file nor folder is left out, and links that lead nowhere.
    ///
    /// # Errors
    /// It does not exist, is not a folder, or access is denied.
    pub async fn list(
        self: Arc<Self>,
        path: String,
        after: Option<String>,
        limit: usize,
    ) -> Result<Listing, FileError> {
        let checked = self.path(&path)?;
        let limit = limit.clamp(1, MOST_LISTED);
        self.work(path, move |folder, path| {
            let opened = folder.root.open_dir(checked.as_str());
            let opened = opened.map_err(|error| folder.failed("opening", path, &error))?;
            let listed = listing(&opened, after.as_deref().unwrap_or(""), limit);
            listed.map_err(|error| folder.failed("listing", path, &error))
        })
        .await
    }

    /// A file's bytes, or a range of them cut to its size, as a stream of up to 64 KiB a piece.
    ///
    /// # Errors
    /// It is not there, no file, or may not be read.
    pub async fn read(
        self: Arc<Self>,
        path: String,
        range: Option<Range<u64>>,
    ) -> Result<(Metadata, Body), FileError> {
        let checked = self.path(&path)?;
        let place = self.place(&path).await?;
        let folder = self.clone();
        let opened = self
            .blocking(&place, path, move |folder, path| {
                let (file, metadata) = read::open(folder, path, &checked)?;
                Ok((file, metadata, path.to_owned()))
            })
            .await;
        let (file, metadata, path) = opened?;
        Ok((
            metadata,
            read::stream(folder, path, file, metadata.size, range, place),
        ))
    }

    /// Writes a whole file: readers see the old one or the new one, never a part. It is on the disk
    /// when this is done.
    ///
    /// # Errors
    /// The folder is for reading, a limit is reached, or the body failed.
    pub async fn write(
        self: Arc<Self>,
        path: String,
        body: Body,
        options: WriteOptions,
    ) -> Result<Metadata, FileError> {
        let checked = self.path(&path)?;
        self.may_write(&path)?;
        let place = self.place(&path).await?;
        write::file(self, &place, path, checked, body, options).await
    }

    /// Writes after the end of a file, which is made if it is not there. Data of one piece, up to 256 KiB of a stream
    /// and all that is given at once otherwise, is not mixed with what others append. It is on the disk when this is
    /// done; what was written stays when the body fails later.
    ///
    /// # Errors
    /// The folder is for reading, a limit is reached, the file has further names (hard links), or the body failed.
    pub async fn append(
        self: Arc<Self>,
        path: String,
        body: Body,
        options: WriteOptions,
    ) -> Result<Metadata, FileError> {
        self.change(path, body, in_place::At::End, options).await
    }

    /// Writes from byte `offset` of a file on, which is made if it is not there. Zeros fill what lies between its end
    /// and `offset`, and count as stored. Readers see each piece as soon as it is written.
    ///
    /// # Errors
    /// As [`Folder::append`].
    pub async fn write_at(
        self: Arc<Self>,
        path: String,
        body: Body,
        offset: u64,
        options: WriteOptions,
    ) -> Result<Metadata, FileError> {
        self.change(path, body, in_place::At::Byte(offset), options)
            .await
    }

    async fn change(
        self: Arc<Self>,
        path: String,
        body: Body,
        at: in_place::At,
        options: WriteOptions,
    ) -> Result<Metadata, FileError> {
        let checked = self.path(&path)?;
        self.may_write(&path)?;
        let place = self.place(&path).await?;
        in_place::write(self, &place, path, checked, body, at, options).await
    }

    /// Cuts a file to a size, or fills it up with zeros, which count as stored.
    ///
    /// # Errors
    /// As [`Folder::append`], or the file is not there.
    pub async fn truncate(self: Arc<Self>, path: String, size: u64) -> Result<Metadata, FileError> {
        let checked = self.path(&path)?;
        self.may_write(&path)?;
        self.work(path, move |folder, path| {
            in_place::truncate(folder, path, &checked, size)
        })
        .await
    }

    /// Writes what a file holds to another one, as [`Folder::write`] does.
    ///
    /// # Errors
    /// Those of reading, or those of writing.
    pub async fn copy(
        self: Arc<Self>,
        from: String,
        to: String,
        options: WriteOptions,
    ) -> Result<Metadata, FileError> {
        let (source, target) = (self.path(&from)?, self.path(&to)?);
        self.may_write(&to)?;
        // One place for both: copies that wait for each other's would wait for ever.
        let place = self.place(&from).await?;
        let opening = self.blocking(&place, from.clone(), move |folder, path| {
            read::open(folder, path, &source)
        });
        let (file, metadata) = opening.await?;
        let body = read::stream(
            Arc::clone(&self),
            from,
            file,
            metadata.size,
            None,
            Arc::clone(&place),
        );
        write::file(self, &place, to, target, body, options).await
    }

    /// Gives a file or folder another name, in one step that readers see completely or not at all. A file takes the
    /// place of a file, and a folder that of an empty folder, unless `create_new` is set.
    ///
    /// # Errors
    /// It is not there, the folder is for reading, or the new name is taken by what it cannot replace.
    pub async fn rename(
        self: Arc<Self>,
        from: String,
        to: String,
        options: WriteOptions,
    ) -> Result<(), FileError> {
        let (source, target) = (self.path(&from)?, self.path(&to)?);
        self.may_write(&from)?;
        self.work(from, move |folder, path| {
            rename::rename(folder, path, &source, &target, options)
        })
        .await
    }

    /// Changes of a file, or in a folder, from now on; `recursive`: in all folders below as well, of which there may
    /// be 512. Changes that nobody reads are bounded in number, and the reader learns when some were left out. Needs
    /// no place among the operations once it has begun.
    ///
    /// # Errors
    /// It is not there, or the kernel cannot watch it.
    pub async fn watch(
        self: Arc<Self>,
        path: String,
        recursive: bool,
    ) -> Result<FileChanges, FileError> {
        let checked = self.path(&path)?;
        let folder = Arc::clone(&self);
        self.work(path, move |_, path| {
            let found = folder.metadata(path, &checked)?;
            let (watched, only) = match (found.kind, checked.split()) {
                (EntryKind::File, Some((parent, name))) => (parent, Some(name.to_owned())),
                _ => (checked.as_str(), None),
            };
            let watched = if watched == "." { "" } else { watched };
            let watching = folder.watcher.watch(&folder, watched, only, recursive);
            watching.map_err(|error| match error.kind() {
                io::ErrorKind::QuotaExceeded => folder.refuse(
                    path,
                    Reason::Watches {
                        limit: MOST_FOLDERS,
                    },
                ),
                _ => folder.failed("watching", path, &error),
            })
        })
        .await
    }

    /// Deletes a file or an empty folder. Whether it was there.
    ///
    /// # Errors
    /// The folder is for reading, or it is not empty.
    pub async fn delete(self: Arc<Self>, path: String) -> Result<bool, FileError> {
        let checked = self.path(&path)?;
        self.may_write(&path)?;
        self.work(path, move |folder, path| {
            write::delete(folder, path, &checked)
        })
        .await
    }

    /// Makes a folder and those that it lies in. One that is there already is fine.
    ///
    /// # Errors
    /// The folder is for reading, a file is in the way, or a limit is reached.
    pub async fn make_folder(self: Arc<Self>, path: String) -> Result<(), FileError> {
        let checked = self.path(&path)?;
        self.may_write(&path)?;
        self.work(path, move |folder, path| {
            for ancestor in checked.ancestors() {
                write::make_one(folder, path, ancestor)?;
            }
            match checked.split() {
                Some(_) => write::make_one(folder, path, checked.as_str()),
                None => Ok(()),
            }
        })
        .await
    }

    /// Bytes counted against the storage limit; 0 where nothing can be written.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.ledger.held().bytes
    }

    fn path(&self, path: &str) -> Result<GuestPath, FileError> {
        GuestPath::parse(path).ok_or_else(|| self.refuse(path, Reason::Path))
    }

    fn may_write(&self, path: &str) -> Result<(), FileError> {
        match self.options.mode {
            Mode::Write => Ok(()),
            Mode::Read => Err(self.refuse(path, Reason::ReadOnly)),
        }
    }

    async fn place(&self, path: &str) -> Result<Place, FileError> {
        let place = tokio::time::timeout(PATIENCE, self.places.clone().acquire_owned()).await;
        let place = place.ok().and_then(Result::ok).map(Arc::new);
        place.ok_or_else(|| {
            self.refuse(
                path,
                Reason::Concurrency {
                    limit: self.options.concurrent,
                },
            )
        })
    }

    /// Does work that may block, when there is a place for it.
    async fn work<T: Send + 'static>(
        self: Arc<Self>,
        path: String,
        work: impl FnOnce(&Self, &str) -> Result<T, FileError> + Send + 'static,
    ) -> Result<T, FileError> {
        let place = self.place(&path).await?;
        self.blocking(&place, path, work).await
    }

    /// Does work that may block. It goes on when its caller does not wait any more, and keeps the place until its end.
    pub(super) async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        place: &Place,
        path: String,
        work: impl FnOnce(&Self, &str) -> Result<T, FileError> + Send + 'static,
    ) -> Result<T, FileError> {
        let (folder, place) = (self.clone(), Arc::clone(place));
        let done = tokio::task::spawn_blocking(move || {
            let _place = place;
            work(&folder, &path)
        })
        .await;
        done.unwrap_or_else(|error| {
            Err(FileError::Failed {
                binding: self.options.binding.clone(),
                what: "work on",
                path: String::new(),
                why: error.to_string(),
            })
        })
    }

    pub(super) fn metadata(&self, path: &str, at: &GuestPath) -> Result<Metadata, FileError> {
        let raw = self.root.metadata(at.as_str());
        let raw = raw.map_err(|error| self.failed("looking at", path, &error))?;
        Metadata::of(&raw).ok_or_else(|| self.refuse(path, Reason::SpecialFile))
    }

    pub(super) fn refuse(&self, path: &str, reason: Reason) -> FileError {
        let shown: String = path.escape_debug().take(200).collect();
        let refusal = Refusal {
            instance: self.instance.clone(),
            action: Action::File,
            target: format!("{}:{shown}", self.options.binding),
            rule: None,
            reason,
            address: None,
        };
        self.audit.refused(&refusal);
        FileError::Refused(Box::new(refusal))
    }

    pub(super) fn exists(&self, path: &str) -> FileError {
        FileError::Exists {
            binding: self.options.binding.clone(),
            path: path.to_owned(),
        }
    }

    pub(super) fn kind(&self, path: &str, why: Misfit) -> FileError {
        FileError::Kind {
            binding: self.options.binding.clone(),
            path: path.to_owned(),
            why,
        }
    }

    pub(super) fn failed(&self, what: &'static str, path: &str, error: &io::Error) -> FileError {
        let binding = self.options.binding.clone();
        match error.kind() {
            io::ErrorKind::NotFound => FileError::NotFound {
                binding,
                path: path.to_owned(),
            },
            io::ErrorKind::AlreadyExists => FileError::Exists {
                binding,
                path: path.to_owned(),
            },
            io::ErrorKind::NotADirectory => self.kind(path, Misfit::NoFolder),
            io::ErrorKind::IsADirectory => self.kind(path, Misfit::Folder),
            io::ErrorKind::DirectoryNotEmpty => self.kind(path, Misfit::NotEmpty),
            // The kernel gives a code; what leads out of the folder is refused before it is asked.
            io::ErrorKind::PermissionDenied if error.raw_os_error().is_none() => {
                self.refuse(path, Reason::Path)
            }
            _ if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
                self.refuse(path, Reason::Path)
            }
            _ => {
                tracing::warn!(instance = %self.instance, %binding, what, %error, "a folder failed");
                FileError::Failed {
                    binding,
                    what,
                    path: path.to_owned(),
                    why: error.to_string(),
                }
            }
        }
    }
}

fn listing(folder: &Dir, after: &str, limit: usize) -> io::Result<Listing> {
    let mut after = after.to_owned();
    loop {
        let (names, more) = names_after(folder, &after, limit)?;
        let known = |name: &String| {
            folder
                .metadata(name)
                .ok()
                .and_then(|raw| Metadata::of(&raw))
        };
        let entries: Vec<FolderEntry> = names
            .iter()
            .filter_map(|name| {
                Some(FolderEntry {
                    metadata: known(name)?,
                    name: name.clone(),
                })
            })
            .collect();
        // A page of nothing but links that lead nowhere is no end.
        match names.into_iter().next_back() {
            Some(last) if entries.is_empty() && more => after = last,
            _ => return Ok(Listing { entries, more }),
        }
    }
}

/// The first `limit` names after `after`, and whether there are more.
fn names_after(folder: &Dir, after: &str, limit: usize) -> io::Result<(BTreeSet<String>, bool)> {
    let mut first = BTreeSet::new();
    let mut more = false;
    for entry in folder.entries()?.take(MOST_LOOKED_AT) {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| is_name(name) && *name > after) else {
            continue;
        };
        let kind = entry.file_type()?;
        if !(kind.is_file() || kind.is_dir() || kind.is_symlink()) {
            continue;
        }
        first.insert(name.to_owned());
        if first.len() > limit {
            first.pop_last();
            more = true;
        }
    }
    Ok((first, more))
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::{Broker, BrokerOptions};

    #[test]
    fn operation_that_nobody_waits_for_keeps_its_place_until_it_has_ended() {
        let granted = tempfile::tempdir().unwrap();
        std::fs::write(granted.path().join("a"), "text").unwrap();
        // One thread for work that blocks, which is busy until the test says otherwise.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(1)
            .build()
            .unwrap();
        runtime.block_on(async {
            let broker = Broker::new(BrokerOptions::default()).unwrap();
            let options = FolderOptions::new("FILES", granted.path().to_owned(), Mode::Write);
            let folder = broker.folder("shop", options).unwrap();
            let free = folder.places.available_permits();
            let reads = |folder: &Arc<Folder>| folder.clone().read("a".to_owned(), None);
            let (_, body) = reads(&folder).await.unwrap();
            let (go, wait) = std::sync::mpsc::channel::<()>();
            let busy = tokio::task::spawn_blocking(move || wait.recv());
            let mut frame = Box::pin(http_body_util::BodyExt::collect(body));
            assert!((&mut frame).now_or_never().is_none());
            drop(frame);
            let body = stockade_http::full_body("new");
            let mut write = Box::pin(folder.clone().write(
                "b".to_owned(),
                body,
                WriteOptions::default(),
            ));
            assert!((&mut write).now_or_never().is_none());
            drop(write);
            assert_eq!(folder.places.available_permits(), free - 2);
            go.send(()).unwrap();
            busy.await.unwrap().unwrap();
            // Behind the work of both on the one thread.
            tokio::task::spawn_blocking(|| ()).await.unwrap();
            assert_eq!(folder.places.available_permits(), free);
        });
    }
}
