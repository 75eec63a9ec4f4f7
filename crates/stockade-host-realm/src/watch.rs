//! `Deno.watchFs`: file system events, in a bounded queue.
//!
//! Invariant: an event is never lost silently. Where the queue was full, the script gets one event with
//! the flag `rescan`.

use std::borrow::Cow;
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use deno_core::error::ResourceError;
use deno_core::{
    AsyncRefCell, CancelFuture, CancelHandle, OpState, RcRef, Resource, ResourceId, op2,
};
use notify::event::{AccessKind, ModifyKind};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use serde::Serialize;
use tokio::sync::mpsc;

const QUEUE: usize = 4096;

#[derive(Debug, Serialize)]
pub(crate) struct WatchEvent {
    kind: &'static str,
    paths: Vec<PathBuf>,
    flag: Option<&'static str>,
}

impl WatchEvent {
    /// `None` for events that watching itself causes: opening a file to read it.
    fn new(event: notify::Event) -> Option<Self> {
        let kind = match event.kind {
            EventKind::Access(AccessKind::Open(_)) => return None,
            EventKind::Access(_) => "access",
            EventKind::Create(_) => "create",
            EventKind::Modify(ModifyKind::Name(_)) => "rename",
            EventKind::Modify(_) => "modify",
            EventKind::Remove(_) => "remove",
            EventKind::Any => "any",
            EventKind::Other => "other",
        };
        let flag = event.need_rescan().then_some("rescan");
        Some(Self {
            kind,
            paths: event.paths,
            flag,
        })
    }

    fn overflow() -> Self {
        Self {
            kind: "other",
            paths: Vec::new(),
            flag: Some("rescan"),
        }
    }
}

#[derive(Debug, thiserror::Error, deno_error::JsError)]
pub(crate) enum WatchError {
    #[class("NotFound")]
    #[error("cannot watch '{0}': no such file or directory")]
    NotFound(String),
    #[class("Busy")]
    #[error(
        "cannot watch '{0}': the limit of watched files is reached\n  fix: sysctl fs.inotify.max_user_watches=524288"
    )]
    TooMany(String),
    #[class(generic)]
    #[error("cannot watch '{path}': {reason}")]
    Other { path: String, reason: String },
    #[class(inherit)]
    #[error(transparent)]
    Resource(#[from] ResourceError),
}

impl WatchError {
    fn new(path: &str, error: &notify::Error) -> Self {
        let path = path.to_owned();
        match &error.kind {
            notify::ErrorKind::PathNotFound => Self::NotFound(path),
            notify::ErrorKind::Io(io) if io.kind() == std::io::ErrorKind::NotFound => {
                Self::NotFound(path)
            }
            notify::ErrorKind::MaxFilesWatch => Self::TooMany(path),
            _ => Self::Other {
                path,
                reason: error.to_string(),
            },
        }
    }
}

type Delivered = Result<WatchEvent, String>;

struct WatchResource {
    events: AsyncRefCell<mpsc::Receiver<Delivered>>,
    overflowed: Arc<AtomicBool>,
    closed: CancelHandle,
    _watcher: RecommendedWatcher,
}

impl Resource for WatchResource {
    fn name(&self) -> Cow<'_, str> {
        "fsEvents".into()
    }

    fn close(self: Rc<Self>) {
        self.closed.cancel();
    }
}

/// `path` from the root, without `.` and `..`: what events name begins with it. Links stay as they are.
fn absolute(path: &str) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path));
    deno_path_util::normalize_path(Cow::Owned(absolute)).into_owned()
}

/// A path that is to be ignored, as given and with its links resolved: events may name either.
fn ignored_paths(path: &str) -> impl Iterator<Item = PathBuf> {
    std::iter::once(absolute(path)).chain(std::fs::canonicalize(path))
}

fn is_ignored(event: &notify::Event, ignored: &[PathBuf]) -> bool {
    let begins = |path: &Path| ignored.iter().any(|prefix| path.starts_with(prefix));
    // The file itself may be gone by now; the folder it was in is not.
    let real = |path: &Path| Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?));
    let hidden = |path: &PathBuf| begins(path) || real(path).is_some_and(|path| begins(&path));
    if ignored.is_empty() {
        return false;
    }
    !event.paths.is_empty() && event.paths.iter().all(hidden)
}

#[op2]
#[smi]
pub(crate) fn op_host_watch_open(
    state: &mut OpState,
    #[serde] paths: Vec<String>,
    recursive: bool,
    #[serde] ignore: Vec<String>,
) -> Result<ResourceId, WatchError> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let overflowed = Arc::new(AtomicBool::new(false));
    let ignored: Vec<PathBuf> = ignore.iter().flat_map(|path| ignored_paths(path)).collect();
    let lost = overflowed.clone();
    let deliver = move |event: notify::Result<notify::Event>| {
        let delivered = match event {
            Ok(event) if is_ignored(&event, &ignored) => return,
            Ok(event) => match WatchEvent::new(event) {
                Some(event) => Ok(event),
                None => return,
            },
            Err(error) => Err(error.to_string()),
        };
        if let Err(mpsc::error::TrySendError::Full(_)) = sender.try_send(delivered) {
            lost.store(true, Ordering::Release);
        }
    };
    let first = paths.first().map_or("", String::as_str);
    let mut watcher =
        notify::recommended_watcher(deliver).map_err(|error| WatchError::new(first, &error))?;
    let mode = if recursive {
        RecursiveMode::Recursive
    } else {
        RecursiveMode::NonRecursive
    };
    for path in &paths {
        watcher
            .watch(&absolute(path), mode)
            .map_err(|error| WatchError::new(path, &error))?;
    }
    Ok(state.resource_table.add(WatchResource {
        events: AsyncRefCell::new(receiver),
        overflowed,
        closed: CancelHandle::new(),
        _watcher: watcher,
    }))
}

/// The next event; `None` once the watcher is closed.
#[op2]
#[serde]
pub(crate) async fn op_host_watch_next(
    state: Rc<RefCell<OpState>>,
    #[smi] rid: ResourceId,
) -> Result<Option<WatchEvent>, WatchError> {
    let Ok(watch) = state.borrow().resource_table.get::<WatchResource>(rid) else {
        return Ok(None);
    };
    let mut events = RcRef::map(&watch, |w| &w.events).borrow_mut().await;
    let closed = RcRef::map(&watch, |w| &w.closed);
    let next = async {
        // What is queued comes first: the loss happened after it.
        if events.is_empty() && watch.overflowed.swap(false, Ordering::AcqRel) {
            return Some(Ok(WatchEvent::overflow()));
        }
        events.recv().await
    };
    match next.or_cancel(closed).await {
        Err(_) | Ok(None) => Ok(None),
        Ok(Some(Ok(event))) => Ok(Some(event)),
        Ok(Some(Err(reason))) => Err(WatchError::Other {
            path: String::new(),
            reason,
        }),
    }
}
