//! A store that is open for checks: all keys in memory, and a thread that follows the file.
//!
//! The thread reads the file four times a second whether it has changed, and at once when it is asked to. It is the
//! only one that uses the file, so that no check waits for a disk.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use aws_lc_rs::{constant_time, rand};
use parking_lot::{Mutex, RwLock};
use siphasher::sip128::SipHasher24;
use tokio::sync::{oneshot, watch};

use crate::failures::FailureLimiter;
use crate::hash::{KeyHash, Pepper};
use crate::index::{Granted, Index};
use crate::key::{ApiKey, KeyFormatError, RandomError};
use crate::store::{Changed, KeyAction, KeyId, Store, StoreError, seconds};

/// How often the thread looks whether the file has changed.
const POLL: Duration = Duration::from_millis(250);

/// How often uses are written.
const WRITE_USES: Duration = Duration::from_secs(60);

/// A wait until a key expires is cut into pieces of this length, since the system's clock may jump.
const MAX_SLEEP: Duration = Duration::from_secs(60);

/// Keys that are checked. A clone is the same; when the last one is dropped, uses are written and the file is closed.
#[derive(Clone)]
pub struct Keys {
    shared: Arc<Shared>,
    follower: Arc<Follower>,
}

struct Shared {
    pepper: Pepper,
    /// The secret of fingerprints. No other process and no file has it.
    fingerprints: [u8; 16],
    index: RwLock<Index>,
    /// Grows after each change of `index`, and when uses were written: what was found at another version is to be
    /// looked up again.
    version: AtomicU64,
    /// Keys that were used since uses were last written, each once, with the time of the first of these uses in seconds
    /// since 1970.
    used: Mutex<Vec<(KeyHash, KeyId, u64)>>,
    /// Counts the changes of `index`.
    changes: watch::Sender<u64>,
    failures: Arc<FailureLimiter>,
}

/// The system's clock, in seconds since 1970.
type Clock = Box<dyn Fn() -> u64 + Send>;

/// Ends the thread when it is dropped.
struct Follower {
    requests: Option<SyncSender<Request>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// Somebody waits until the file has been read.
type Request = oneshot::Sender<Result<usize, String>>;

/// The key that one connection has shown last, and what was found for it. It does not have the text: a copy of the
/// memory has no key.
#[derive(Default)]
pub struct LastKey(Mutex<Option<Shown>>);

struct Shown {
    fingerprint: Fingerprint,
    of: Weak<Shared>,
    granted: Arc<Granted>,
}

/// A keyed hash of a text that is cheaper than the one of the store, and its length in bytes.
#[derive(Clone, Copy)]
struct Fingerprint {
    hash: [u8; 16],
    length: usize,
}

impl Shared {
    fn fingerprint(&self, text: &[u8]) -> Fingerprint {
        let hash = SipHasher24::new_with_key(&self.fingerprints).hash(text);
        Fingerprint {
            hash: hash.as_bytes(),
            length: text.len(),
        }
    }

    /// Whether a text has a fingerprint. Texts of another length are not hashed: a client chooses how long they are.
    fn is_of(&self, text: &[u8], fingerprint: &Fingerprint) -> bool {
        text.len() == fingerprint.length
            && constant_time::verify_slices_are_equal(
                &self.fingerprint(text).hash,
                &fingerprint.hash,
            )
            .is_ok()
    }
}

impl std::fmt::Debug for LastKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LastKey(…)")
    }
}

/// Why a text is not accepted as a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// It has not the form of a key.
    #[error("it is not an API key: {0}")]
    Form(#[from] KeyFormatError),
    /// It is unknown, expired, rotated away or revoked.
    #[error("the API key is not valid")]
    Invalid,
}

/// Reports what was done to a key. An action is reported again until this succeeds; the error is for a person.
pub type ReportAction = Box<dyn FnMut(&KeyAction) -> Result<(), String> + Send>;

impl Keys {
    /// Opens a store, reads all keys, and starts to follow the file. What is done to keys is left for another program
    /// to report.
    ///
    /// # Errors
    /// When the store cannot be opened or read.
    pub fn open(path: &Path, pepper: Pepper) -> Result<Self, StoreError> {
        Self::follow(path, pepper, None, system_clock())
    }

    /// As [`Self::open`], and reports each action on a key once, in their order, those included that happened while nothing
    /// had the store open. [`Self::refresh`] returns when all have been reported.
    ///
    /// # Errors
    /// When the store cannot be opened or read.
    pub fn open_reporting(
        path: &Path,
        pepper: Pepper,
        report: ReportAction,
    ) -> Result<Self, StoreError> {
        Self::follow(path, pepper, Some(report), system_clock())
    }

    fn follow(
        path: &Path,
        pepper: Pepper,
        report: Option<ReportAction>,
        clock: Clock,
    ) -> Result<Self, StoreError> {
        let mut store = Store::open(path, pepper.clone())?;
        let loaded = clock();
        let (index, number) = load(&mut store, loaded)?;
        let version = store.data_version()?;
        let mut fingerprints = [0; 16];
        rand::fill(&mut fingerprints).map_err(|_| RandomError)?;
        let shared = Arc::new(Shared {
            pepper,
            fingerprints,
            index: RwLock::new(index),
            version: AtomicU64::new(0),
            used: Mutex::default(),
            changes: watch::Sender::new(0),
            failures: Arc::default(),
        });
        let (requests, receiver) = sync_channel(64);
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("api keys".to_owned())
            .spawn(move || {
                let read = Read {
                    number,
                    version,
                    loaded,
                };
                follow(&of_thread, store, read, &receiver, report, &clock);
            })
            .map_err(|source| StoreError::Io {
                path: path.to_owned(),
                source,
            })?;
        Ok(Self {
            shared,
            follower: Arc::new(Follower {
                requests: Some(requests),
                thread: Some(thread),
            }),
        })
    }

    /// Checks a text, which any client may have sent.
    ///
    /// # Errors
    /// When it is not a key that may be used now.
    pub fn check(&self, text: &[u8], now: SystemTime) -> Result<Granted, CheckError> {
        ApiKey::check(text)?;
        // Before the lookup: a change that comes between is one that the version does not have.
        let version = self.shared.version.load(Ordering::Acquire);
        let hash = self.shared.pepper.hash_bytes(text);
        let now = seconds(now);
        let found = self.shared.index.read().find(&hash, now);
        let (mut granted, first) = found.ok_or(CheckError::Invalid)?;
        granted.version = version;
        if first {
            self.shared.used.lock().push((hash, granted.id, now));
        }
        Ok(granted)
    }

    /// Checks a text as [`Self::check`] does, without a hash where it is the one of the last check with `last` and no
    /// key has changed since.
    ///
    /// # Errors
    /// When it is not a key that may be used now.
    pub fn check_again(
        &self,
        text: &[u8],
        now: SystemTime,
        last: &LastKey,
    ) -> Result<Arc<Granted>, CheckError> {
        let mut last = last.0.lock();
        if let Some(shown) = &*last
            && Weak::as_ptr(&shown.of) == Arc::as_ptr(&self.shared)
            && shown.granted.version == self.shared.version.load(Ordering::Acquire)
            && shown.granted.lasts(seconds(now))
            && self.shared.is_of(text, &shown.fingerprint)
        {
            return Ok(Arc::clone(&shown.granted));
        }
        // A key that is no longer valid is not kept.
        *last = None;
        let granted = Arc::new(self.check(text, now)?);
        *last = Some(Shown {
            fingerprint: self.shared.fingerprint(text),
            of: Arc::downgrade(&self.shared),
            granted: Arc::clone(&granted),
        });
        Ok(granted)
    }

    /// Whether a key that was found valid still is.
    #[must_use]
    pub fn is_valid(&self, granted: &Granted, now: SystemTime) -> bool {
        self.shared.is_valid(granted, now)
    }

    /// Ends as soon as a key is no longer valid: it is revoked, rotated away, or expired. The file is followed as long
    /// as somebody waits.
    pub fn until_invalid(&self, granted: &Arc<Granted>) -> impl Future<Output = ()> + Send + use<> {
        let (keys, changes) = (self.clone(), self.shared.changes.subscribe());
        wait(changes, Arc::clone(granted), move || {
            let keys = &keys;
            Some(Arc::clone(&keys.shared))
        })
    }

    /// As [`Self::until_invalid`], for one that others keep the file open for: when nobody does any more, it never ends.
    pub fn until_invalid_while_open(
        &self,
        granted: &Arc<Granted>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let (shared, changes) = (
            Arc::downgrade(&self.shared),
            self.shared.changes.subscribe(),
        );
        wait(changes, Arc::clone(granted), move || shared.upgrade())
    }

    /// Bounds the wrong keys of each address.
    #[must_use]
    pub fn failures(&self) -> &Arc<FailureLimiter> {
        &self.shared.failures
    }

    /// How many texts of keys are in memory.
    #[must_use]
    pub fn count(&self) -> usize {
        self.shared.index.read().len()
    }

    /// Reads what has changed in the file now, and gives the number of texts in memory when that is in effect.
    ///
    /// # Errors
    /// Why the file could not be read, for a person.
    pub async fn refresh(&self) -> Result<usize, String> {
        let ended = || "the thread that follows the store of keys has ended".to_owned();
        let (sender, receiver) = oneshot::channel();
        let requests = self.follower.requests.as_ref().ok_or_else(ended)?;
        if let Err(error) = requests.try_send(sender) {
            return Err(match error {
                std::sync::mpsc::TrySendError::Full(_) => {
                    "too many wait for the store of keys".to_owned()
                }
                std::sync::mpsc::TrySendError::Disconnected(_) => ended(),
            });
        }
        receiver.await.unwrap_or_else(|_| Err(ended()))
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({})", self.count())
    }
}

impl Shared {
    fn is_valid(&self, granted: &Granted, now: SystemTime) -> bool {
        self.ends(granted, now).is_some()
    }

    /// When a key that was found valid ends, as is known now: a rotation since then gives its text an end. `u32::MAX`: never;
    /// `None`: it is not valid any more.
    fn ends(&self, granted: &Granted, now: SystemTime) -> Option<u32> {
        let now = seconds(now);
        if granted.version == self.version.load(Ordering::Acquire) {
            return granted.lasts(now).then_some(granted.expires);
        }
        self.index.read().expires(&granted.hash, now)
    }

    /// What was found before is to be looked up again.
    fn turn(&self) {
        self.version.fetch_add(1, Ordering::Release);
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // It has reported a panic by itself.
            let _ = thread.join();
        }
    }
}

fn system_clock() -> Clock {
    Box::new(|| seconds(SystemTime::now()))
}

/// Waits until a key is no longer valid, or for ever once the keys are gone.
async fn wait(
    mut changes: watch::Receiver<u64>,
    granted: Arc<Granted>,
    shared: impl Fn() -> Option<Arc<Shared>>,
) {
    loop {
        // Before the check, so that no change falls between the two.
        changes.borrow_and_update();
        let now = SystemTime::now();
        let Some(ends) = shared().map(|shared| shared.ends(&granted, now)) else {
            return std::future::pending().await;
        };
        let Some(ends) = ends else {
            return;
        };
        let changed = if ends == u32::MAX {
            changes.changed().await
        } else {
            let left = u64::from(ends).saturating_sub(seconds(now));
            let left = Duration::from_secs(left.max(1)).min(MAX_SLEEP);
            let changed = tokio::time::timeout(left, changes.changed()).await;
            changed.unwrap_or(Ok(()))
        };
        if changed.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Reads everything: the keys that have not expired, and the number of the last change that they contain.
fn load(store: &mut Store, now: u64) -> Result<(Index, i64), StoreError> {
    store.snapshot(|store| {
        let mut index = Index::with_capacity(store.count_secrets()?);
        store.each_active(now, |secret| index.insert(secret))?;
        Ok((index, store.last_change()?))
    })
}

/// What the memory has of the file.
struct Read {
    /// The number of the last change.
    number: i64,
    /// [`Store::data_version`].
    version: i64,
    /// By the clock, when everything was last read: keys that had expired then are not in memory.
    loaded: u64,
}

/// The thread.
fn follow(
    shared: &Shared,
    mut store: Store,
    mut read: Read,
    requests: &Receiver<Request>,
    mut report: Option<ReportAction>,
    clock: &Clock,
) {
    let mut written = Instant::now();
    let mut failing = false;
    // Those of the time in which nothing had the store open.
    let mut unreported = true;
    loop {
        let request = match requests.recv_timeout(POLL) {
            Ok(request) => Some(request),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => break,
        };
        let mut changed = false;
        let now = clock();
        let outcome = match store.data_version() {
            // The clock was ahead and is set right: keys that seemed to have expired have not.
            Ok(version) if now < read.loaded => {
                changed = true;
                refresh_all(shared, &mut store, &mut read, now).map(|()| read.version = version)
            }
            Ok(version) if version == read.version && request.is_none() => Ok(()),
            Ok(version) => {
                changed = true;
                refresh(shared, &mut store, &mut read, now).map(|()| read.version = version)
            }
            Err(error) => Err(error),
        };
        if let Err(error) = &outcome
            && !std::mem::replace(&mut failing, true)
        {
            tracing::error!("changes of API keys are not seen until this is over: {error}");
        }
        failing &= outcome.is_err();
        if let Some(request) = request {
            // First in effect, then reported: a revocation waits for no disk.
            let reported = report_actions(&mut store, &mut report);
            unreported = reported.is_err();
            let outcome = outcome.map_err(|error| error.to_string()).and(reported);
            // The one that asked may have gone.
            let _ = request.send(outcome.map(|()| shared.index.read().len()));
        } else if unreported || changed {
            unreported = report_actions(&mut store, &mut report).is_err();
        }
        if written.elapsed() >= WRITE_USES {
            write_uses(shared, &mut store);
            written = Instant::now();
        }
    }
    write_uses(shared, &mut store);
}

/// Brings the memory to the state of the file.
fn refresh(
    shared: &Shared,
    store: &mut Store,
    read: &mut Read,
    now: u64,
) -> Result<(), StoreError> {
    let before = read.number;
    let changed = store.snapshot(|store| {
        let last = store.last_change()?;
        match store.changed_after(before)? {
            Changed::Everything => Ok(None),
            Changed::Keys(ids) => {
                let all: Result<Vec<_>, _> =
                    ids.into_iter().map(|id| store.secrets_of(id)).collect();
                Ok(Some((all?, last)))
            }
        }
    })?;
    match changed {
        Some((keys, _)) if keys.is_empty() => return Ok(()),
        Some((keys, last)) => {
            let mut index = shared.index.write();
            for (hashes, active) in keys {
                hashes.iter().for_each(|hash| index.remove(hash));
                active.into_iter().for_each(|secret| index.insert(secret));
            }
            read.number = last;
        }
        None => return refresh_all(shared, store, read, now),
    }
    shared.turn();
    shared.changes.send_modify(|changes| *changes += 1);
    Ok(())
}

/// Reads everything again.
fn refresh_all(
    shared: &Shared,
    store: &mut Store,
    read: &mut Read,
    now: u64,
) -> Result<(), StoreError> {
    let (index, last) = load(store, now)?;
    *shared.index.write() = index;
    (read.number, read.loaded) = (last, now);
    shared.turn();
    shared.changes.send_modify(|changes| *changes += 1);
    Ok(())
}

/// Reports actions until all are, or one cannot be.
fn report_actions(store: &mut Store, report: &mut Option<ReportAction>) -> Result<(), String> {
    let Some(report) = report else {
        return Ok(());
    };
    loop {
        let actions = store.unreported(1000).map_err(|error| error.to_string())?;
        let Some(last) = actions.last().map(|action| action.number) else {
            return Ok(());
        };
        let mut done = None;
        let outcome = actions.iter().try_for_each(|action| {
            report(action)?;
            done = Some(action.number);
            Ok::<_, String>(())
        });
        if let Some(done) = done {
            store.reported(done).map_err(|error| error.to_string())?;
        }
        outcome?;
        if done != Some(last) {
            return Ok(());
        }
    }
}

/// Writes which keys were used since the last time, with times at which they were.
fn write_uses(shared: &Shared, store: &mut Store) {
    let used = std::mem::take(&mut *shared.used.lock());
    if used.is_empty() {
        return;
    }
    let uses: Vec<(KeyId, u64)> = used.iter().map(|(_, id, at)| (*id, *at)).collect();
    if let Err(error) = store.used(&uses) {
        tracing::warn!("the last uses of API keys are not written: {error}");
    }
    // Those of a failed write are noted again with their next use.
    let index = shared.index.read();
    used.iter().for_each(|(hash, ..)| index.unused(hash));
    drop(index);
    // The next use of each is noted.
    shared.turn();
}

#[cfg(test)]
mod tests;
