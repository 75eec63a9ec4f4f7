//! Reports of the kernel about changes in granted folders (inotify(7)).
//!
//! Invariants:
//! 1. What is watched is a descriptor that was opened beneath the granted folder, not a path: no link leads a watch
//!    out, whatever happens meanwhile. Links are not followed.
//! 2. What waits for one reader is bounded. A reader that falls behind learns that it must list again, and holds up nobody.
//! 3. One reader watches a bounded number of folders. All readers share one descriptor of inotify.
//! 4. A watch ends when its [`FileChanges`] are dropped or ended; the kernel's watch ends with the last reader.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Changes that wait for one reader.
const MOST_WAITING: usize = 256;

/// Folders that one reader watches.
pub(super) const MOST_FOLDERS: usize = 512;

/// What happened to a file or folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is there now: made, moved here, or put in the place of another one.
    Create,
    /// Its contents or its attributes are others.
    Modify,
    /// It is there no longer.
    Remove,
    /// Changes were lost: what is watched must be listed again.
    Rescan,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileChange {
    /// What happened.
    pub kind: ChangeKind,
    /// The guest's path; of [`ChangeKind::Rescan`], the one that is watched.
    pub path: String,
}

/// The changes of a folder or file, for one reader.
pub struct FileChanges {
    inner: Arc<Changes>,
}

impl FileChanges {
    /// The next change; `None` after the end.
    pub async fn next(&self) -> Option<FileChange> {
        self.inner.next().await
    }

    /// What ends these changes when it is dropped.
    #[must_use]
    pub fn stop(&self) -> StopChanges {
        StopChanges(Arc::clone(&self.inner))
    }
}

impl Drop for FileChanges {
    fn drop(&mut self) {
        self.inner.end();
    }
}

/// Ends the changes of one reader when it is dropped.
pub struct StopChanges(Arc<Changes>);

impl Drop for StopChanges {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// What one reader watches, and what waits for it.
pub(super) struct Changes {
    /// The path that is watched, without a `/` at its ends.
    pub(super) path: String,
    /// The one name in its folder that is meant; `None` for all.
    pub(super) only: Option<String>,
    /// Folders in folders too.
    pub(super) recursive: bool,
    /// Folders that are watched for it, each under each of its paths.
    folders: AtomicUsize,
    waiting: Mutex<Waiting>,
    changed: Notify,
    source: Arc<dyn Source>,
}

/// Where changes come from.
trait Source: Send + Sync {
    fn forget(&self, changes: &Changes);
}

#[derive(Default)]
struct Waiting {
    changes: VecDeque<FileChange>,
    is_behind: bool,
    is_over: bool,
}

impl Changes {
    pub(super) fn push(&self, kind: ChangeKind, path: String) {
        let mut waiting = self.waiting.lock();
        let change = FileChange { kind, path };
        // A file that is written often has one change, until that is read.
        if waiting.is_behind || waiting.changes.back() == Some(&change) {
            return;
        }
        if waiting.changes.len() >= MOST_WAITING {
            waiting.changes.clear();
            waiting.is_behind = true;
        } else {
            waiting.changes.push_back(change);
        }
        drop(waiting);
        self.changed.notify_one();
    }

    /// Some changes are not known.
    pub(super) fn lost(&self) {
        let mut waiting = self.waiting.lock();
        waiting.changes.clear();
        waiting.is_behind = true;
        drop(waiting);
        self.changed.notify_one();
    }

    async fn next(&self) -> Option<FileChange> {
        loop {
            {
                let mut waiting = self.waiting.lock();
                if waiting.is_over {
                    return None;
                }
                if std::mem::take(&mut waiting.is_behind) {
                    return Some(FileChange {
                        kind: ChangeKind::Rescan,
                        path: self.path.clone(),
                    });
                }
                if let Some(change) = waiting.changes.pop_front() {
                    return Some(change);
                }
            }
            self.changed.notified().await;
        }
    }

    fn end(&self) {
        {
            let mut waiting = self.waiting.lock();
            if std::mem::replace(&mut waiting.is_over, true) {
                return;
            }
            waiting.changes = VecDeque::new();
        }
        self.changed.notify_one();
        self.source.forget(self);
    }

    fn is_over(&self) -> bool {
        self.waiting.lock().is_over
    }
}

/// `name` in the folder `path`, as a guest says it.
pub(super) fn joined(path: &str, name: &str) -> String {
    match path {
        "" => name.to_owned(),
        path => format!("{path}/{name}"),
    }
}

#[cfg(target_os = "linux")]
pub(crate) use linux::Watcher;
#[cfg(not(target_os = "linux"))]
pub(crate) use unsupported::Watcher;

#[cfg(target_os = "linux")]
mod linux {
    use std::io;
    use std::mem::MaybeUninit;
    use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
    use std::sync::Weak;

    use cap_std::fs::Dir;
    use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;

    use super::super::{Folder, MOST_LOOKED_AT};
    use super::*;
    use crate::files::path::{MOST_PATH_NAMES, is_name};

    /// The kernel's reports, for all granted folders of a broker. Begins with the first watch.
    #[derive(Default)]
    pub(crate) struct Watcher(Mutex<Option<Running>>);

    struct Running {
        shared: Arc<Shared>,
        task: tokio::task::JoinHandle<()>,
    }

    impl Drop for Running {
        fn drop(&mut self) {
            self.task.abort();
        }
    }

    struct Shared {
        inotify: AsyncFd<OwnedFd>,
        /// By the kernel's number of a watched folder: each folder has one, whatever its paths are.
        folders: Mutex<HashMap<i32, Vec<Place>>>,
    }

    /// A reader of a folder.
    struct Place {
        /// The guest's path of the folder.
        path: String,
        changes: Arc<Changes>,
        folder: Weak<Folder>,
    }

    impl Drop for Place {
        fn drop(&mut self) {
            self.changes.folders.fetch_sub(1, Ordering::Relaxed);
        }
    }

    impl Watcher {
        /// Watches a folder, or one name in it: blocks. Must be called within a tokio runtime.
        pub(crate) fn watch(
            &self,
            folder: &Arc<Folder>,
            path: &str,
            only: Option<String>,
            recursive: bool,
        ) -> io::Result<FileChanges> {
            let shared = self.running()?;
            let changes = Arc::new(Changes {
                path: match &only {
                    Some(name) => joined(path, name),
                    None => path.to_owned(),
                },
                only,
                recursive,
                folders: AtomicUsize::new(0),
                waiting: Mutex::default(),
                changed: Notify::new(),
                source: Arc::clone(&shared) as Arc<dyn Source>,
            });
            // Ends what was begun when a folder below cannot be watched.
            let watched = FileChanges {
                inner: Arc::clone(&changes),
            };
            shared.follow(folder, path, &changes, false)?;
            Ok(watched)
        }

        fn running(&self) -> io::Result<Arc<Shared>> {
            let mut running = self.0.lock();
            if let Some(running) = &*running
                && !running.task.is_finished()
            {
                return Ok(Arc::clone(&running.shared));
            }
            let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
            #[expect(
                deprecated,
                reason = "what replaces it is unsafe; it owns the descriptor, which stays open"
            )]
            let inotify = AsyncFd::with_interest(inotify, Interest::READABLE)?;
            let shared = Arc::new(Shared {
                inotify,
                folders: Mutex::default(),
            });
            let task = tokio::spawn(Arc::clone(&shared).read());
            *running = Some(Running {
                shared: Arc::clone(&shared),
                task,
            });
            Ok(shared)
        }
    }

    impl Source for Shared {
        fn forget(&self, changes: &Changes) {
            self.forget_places(|place| std::ptr::eq(&*place.changes, changes));
        }
    }

    impl Shared {
        /// Takes places away, and the kernel's watches that nobody has any more.
        fn forget_places(&self, is_meant: impl Fn(&Place) -> bool) {
            let mut folders = self.folders.lock();
            folders.retain(|number, places| {
                places.retain(|place| !is_meant(place));
                if places.is_empty() {
                    // It fails where the folder is gone, and its watch with it.
                    let _ = inotify::remove_watch(&self.inotify, *number);
                }
                !places.is_empty()
            });
        }

        /// Watches a folder and, where that is asked for, those below. `is_new`: what is found there is reported.
        fn follow(
            &self,
            folder: &Arc<Folder>,
            path: &str,
            changes: &Arc<Changes>,
            is_new: bool,
        ) -> io::Result<()> {
            let mut left = vec![path.to_owned()];
            while let Some(path) = left.pop() {
                let at = if path.is_empty() { "." } else { &path };
                let opened = match folder.root.open_dir(at) {
                    Ok(opened) => opened,
                    // One below was replaced meanwhile, which is reported by the one above it.
                    Err(_) if path != changes.path && changes.only.is_none() => continue,
                    Err(error) => return Err(error),
                };
                // Watched before it is listed, so that nothing falls in between.
                self.place(&opened, &path, changes, folder)?;
                if !changes.recursive || path.split('/').count() >= MOST_PATH_NAMES {
                    continue;
                }
                for entry in opened.entries()?.take(MOST_LOOKED_AT) {
                    let entry = entry?;
                    let name = entry.file_name();
                    let Some(name) = name.to_str().filter(|name| is_name(name)) else {
                        continue;
                    };
                    if is_new {
                        changes.push(ChangeKind::Create, joined(&path, name));
                    }
                    if entry.file_type()?.is_dir() {
                        left.push(joined(&path, name));
                    }
                }
            }
            Ok(())
        }

        fn place(
            &self,
            opened: &Dir,
            path: &str,
            changes: &Arc<Changes>,
            folder: &Arc<Folder>,
        ) -> io::Result<()> {
            let flags = WatchFlags::CREATE
                | WatchFlags::DELETE
                | WatchFlags::MODIFY
                | WatchFlags::ATTRIB
                | WatchFlags::MOVED_FROM
                | WatchFlags::MOVED_TO
                | WatchFlags::DELETE_SELF
                | WatchFlags::ONLYDIR;
            let mut folders = self.folders.lock();
            if changes.folders.load(Ordering::Relaxed) >= MOST_FOLDERS {
                return Err(io::Error::new(
                    io::ErrorKind::QuotaExceeded,
                    format!("more than {MOST_FOLDERS} folders would be watched"),
                ));
            }
            // The descriptor itself, by the link that the kernel has for it.
            let link = format!("/proc/self/fd/{}", opened.as_fd().as_raw_fd());
            let number = inotify::add_watch(&self.inotify, link, flags)?;
            // It may have ended meanwhile: then nothing would take this place away.
            if changes.is_over() {
                if !folders.contains_key(&number) {
                    let _ = inotify::remove_watch(&self.inotify, number);
                }
                return Ok(());
            }
            let places = folders.entry(number).or_default();
            if !places
                .iter()
                .any(|place| Arc::ptr_eq(&place.changes, changes) && place.path == path)
            {
                changes.folders.fetch_add(1, Ordering::Relaxed);
                places.push(Place {
                    path: path.to_owned(),
                    changes: Arc::clone(changes),
                    folder: Arc::downgrade(folder),
                });
            }
            Ok(())
        }

        /// Reads the kernel's reports for as long as there is a broker.
        async fn read(self: Arc<Self>) {
            loop {
                let Ok(mut ready) = self.inotify.readable().await else {
                    return;
                };
                let mut buffer = [MaybeUninit::uninit(); 8192];
                let mut reader = Reader::new(&self.inotify, &mut buffer);
                // No more than one buffer at once: other tasks have their turn.
                loop {
                    match reader.next() {
                        Ok(event) => {
                            let name = event.file_name().and_then(|name| name.to_str().ok());
                            self.report(event.wd(), event.events(), name);
                        }
                        Err(rustix::io::Errno::AGAIN) => {
                            ready.clear_ready();
                            break;
                        }
                        Err(rustix::io::Errno::INTR) => {}
                        Err(error) => {
                            tracing::warn!(%error, "changes in folders are no longer read");
                            return;
                        }
                    }
                    if reader.is_buffer_empty() {
                        break;
                    }
                }
            }
        }

        fn report(self: &Arc<Self>, number: i32, events: ReadFlags, name: Option<&str>) {
            if events.contains(ReadFlags::QUEUE_OVERFLOW) {
                let folders = self.folders.lock();
                for place in folders.values().flatten() {
                    place.changes.lost();
                }
                return;
            }
            let kind = kind_of(events);
            let mut new_folders = Vec::new();
            let mut gone = Vec::new();
            {
                let mut folders = self.folders.lock();
                if events.contains(ReadFlags::IGNORED) {
                    folders.remove(&number);
                    return;
                }
                for place in folders.get(&number).into_iter().flatten() {
                    let Some(kind) = kind else { continue };
                    let changes = &place.changes;
                    let Some(name) = name else {
                        // The folder itself; one above it reports it otherwise.
                        if kind == ChangeKind::Remove && place.path == changes.path {
                            changes.push(kind, place.path.clone());
                        }
                        continue;
                    };
                    if !is_name(name) || changes.only.as_deref().is_some_and(|only| only != name) {
                        continue;
                    }
                    let path = joined(&place.path, name);
                    if changes.recursive && events.contains(ReadFlags::ISDIR) {
                        match kind {
                            ChangeKind::Create => new_folders.push((
                                path.clone(),
                                Arc::clone(changes),
                                place.folder.clone(),
                            )),
                            ChangeKind::Remove => gone.push((path.clone(), Arc::clone(changes))),
                            _ => {}
                        }
                    }
                    changes.push(kind, path);
                }
            }
            // A folder that was moved away has other paths.
            for (path, changes) in gone {
                let below = format!("{path}/");
                self.forget_places(|place| {
                    Arc::ptr_eq(&place.changes, &changes)
                        && (place.path == path || place.path.starts_with(&below))
                });
            }
            for (path, changes, folder) in new_folders {
                self.follow_later(path, changes, folder);
            }
        }

        /// Watches a folder that has appeared, on a thread that may block.
        fn follow_later(
            self: &Arc<Self>,
            path: String,
            changes: Arc<Changes>,
            folder: Weak<Folder>,
        ) {
            let shared = Arc::clone(self);
            tokio::task::spawn_blocking(move || {
                let Some(folder) = folder.upgrade().filter(|_| !changes.is_over()) else {
                    return;
                };
                if shared.follow(&folder, &path, &changes, true).is_err() {
                    changes.lost();
                }
            });
        }
    }

    fn kind_of(events: ReadFlags) -> Option<ChangeKind> {
        let has = |flags: ReadFlags| events.intersects(flags);
        if has(ReadFlags::CREATE | ReadFlags::MOVED_TO) {
            Some(ChangeKind::Create)
        } else if has(ReadFlags::DELETE | ReadFlags::MOVED_FROM | ReadFlags::DELETE_SELF) {
            Some(ChangeKind::Remove)
        } else if has(ReadFlags::MODIFY | ReadFlags::ATTRIB) {
            Some(ChangeKind::Modify)
        } else {
            None
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod unsupported {
    use std::io;

    use super::super::Folder;
    use super::*;

    /// Changes are not reported here.
    #[derive(Default)]
    pub(crate) struct Watcher;

    impl Watcher {
        pub(crate) fn watch(
            &self,
            _folder: &Arc<Folder>,
            _path: &str,
            _only: Option<String>,
            _recursive: bool,
        ) -> io::Result<FileChanges> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }
}
