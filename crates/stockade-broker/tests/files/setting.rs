//! A granted folder next to what was not granted, and short calls of what a guest can do in it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use parking_lot::Mutex;
use stockade_broker::{
    Audit, Broker, BrokerOptions, FileError, Folder, FolderOptions, Mode, Reason, Refusal,
    WriteOptions,
};
use stockade_http::Body;

#[derive(Default)]
pub(crate) struct Recorded(Mutex<Vec<Refusal>>);

impl Audit for Recorded {
    fn refused(&self, refusal: &Refusal) {
        self.0.lock().push(refusal.clone());
    }
}

pub(crate) struct Grant {
    pub(crate) outer: tempfile::TempDir,
    pub(crate) broker: Broker,
    recorded: Arc<Recorded>,
}

impl Grant {
    pub(crate) fn new() -> Self {
        let outer = tempfile::tempdir().unwrap();
        fs::create_dir(outer.path().join("granted")).unwrap();
        fs::write(outer.path().join("outside"), "outside's secret").unwrap();
        let recorded = Arc::new(Recorded::default());
        let options = BrokerOptions {
            audit: recorded.clone(),
            ..BrokerOptions::default()
        };
        Self {
            outer,
            broker: Broker::new(options).unwrap(),
            recorded,
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.outer.path().join("granted")
    }

    pub(crate) fn open(&self, mode: Mode, change: impl FnOnce(&mut FolderOptions)) -> Arc<Folder> {
        let mut options = FolderOptions::new("FILES", self.path(), mode);
        change(&mut options);
        self.broker.folder("acme", options).unwrap()
    }

    pub(crate) fn reasons(&self) -> Vec<Reason> {
        self.recorded
            .0
            .lock()
            .drain(..)
            .map(|refusal| refusal.reason)
            .collect()
    }
}

/// A folder `name` in the grant and a link to a folder outside, which take each other's place as fast as they can.
pub(crate) struct Swapping {
    outside: PathBuf,
    stop: Arc<AtomicBool>,
    swapper: JoinHandle<u64>,
}

impl Swapping {
    pub(crate) fn start(grant: &Grant) -> Self {
        let outside = grant.outer.path().join("target");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("file"), "outside's secret").unwrap();
        let root = grant.path();
        fs::create_dir(root.join("name")).unwrap();
        fs::write(root.join("name/file"), "inside").unwrap();
        symlink(&outside, root.join("evil")).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let swapper = {
            let (root, stop) = (fs::File::open(&root).unwrap(), stop.clone());
            std::thread::spawn(move || {
                let mut count = 0;
                while !stop.load(Ordering::Relaxed) || count % 2 == 1 {
                    let flags = rustix::fs::RenameFlags::EXCHANGE;
                    rustix::fs::renameat_with(&root, "name", &root, "evil", flags).unwrap();
                    count += 1;
                }
                count
            })
        };
        Self {
            outside,
            stop,
            swapper,
        }
    }

    /// Stops, and returns how often the two took each other's place.
    ///
    /// # Panics
    /// If anything outside was changed.
    pub(crate) fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let swaps = self.swapper.join().unwrap();
        assert_eq!(
            names(&self.outside),
            ["file"],
            "nothing was written outside"
        );
        assert_eq!(
            fs::read(self.outside.join("file")).unwrap(),
            b"outside's secret"
        );
        swaps
    }
}

pub(crate) fn body(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

pub(crate) async fn read(folder: &Arc<Folder>, path: &str) -> Result<Bytes, FileError> {
    let (_, body) = folder.clone().read(path.to_owned(), None).await?;
    Ok(body.collect().await.unwrap().to_bytes())
}

pub(crate) async fn write(folder: &Arc<Folder>, path: &str, bytes: &[u8]) -> Result<(), FileError> {
    let body = body(bytes.to_vec());
    let written = folder
        .clone()
        .write(path.to_owned(), body, WriteOptions::default())
        .await;
    written.map(|_| ())
}

pub(crate) fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

pub(crate) async fn append(
    folder: &Arc<Folder>,
    path: &str,
    bytes: &[u8],
) -> Result<(), FileError> {
    let options = WriteOptions::default();
    let appending = folder
        .clone()
        .append(path.to_owned(), body(bytes.to_vec()), options);
    appending.await.map(|_| ())
}

pub(crate) async fn write_at(
    folder: &Arc<Folder>,
    path: &str,
    bytes: &[u8],
    offset: u64,
) -> Result<(), FileError> {
    let (data, options) = (body(bytes.to_vec()), WriteOptions::default());
    let writing = folder
        .clone()
        .write_at(path.to_owned(), data, offset, options);
    writing.await.map(|_| ())
}

pub(crate) async fn rename(folder: &Arc<Folder>, from: &str, to: &str) -> Result<(), FileError> {
    let options = WriteOptions::default();
    folder
        .clone()
        .rename(from.to_owned(), to.to_owned(), options)
        .await
}

pub(crate) async fn copy(folder: &Arc<Folder>, from: &str, to: &str) -> Result<(), FileError> {
    let options = WriteOptions::default();
    let copying = folder.clone().copy(from.to_owned(), to.to_owned(), options);
    copying.await.map(|_| ())
}

/// What the ledger counts, found by counting again.
pub(crate) fn counted(path: &Path) -> u64 {
    let mut bytes = 0;
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        bytes += 512;
        if kind.is_file() {
            bytes += entry.metadata().unwrap().len();
        } else if kind.is_dir() {
            bytes += counted(&entry.path());
        }
    }
    bytes
}
