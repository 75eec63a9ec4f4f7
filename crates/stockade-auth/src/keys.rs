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
    /// Keys that were used since uses were last written, each once.
    used: Mutex<Vec<(KeyHash, KeyId)>>,
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

    /// The same, and reports each action on a key once, in their order, those included that happened while nothing
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
        let found = self.shared.index.read().find(&hash, seconds(now));
        let (mut granted, first) = found.ok_or(CheckError::Invalid)?;
        granted.version = version;
        if first {
            self.shared.used.lock().push((hash, granted.id));
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
        let now = seconds(now);
        if granted.version == self.version.load(Ordering::Acquire) {
            return granted.lasts(now);
        }
        self.index.read().has(&granted.hash, now)
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
        let valid = shared().map(|shared| shared.is_valid(&granted, now));
        if valid == Some(false) {
            return;
        }
        let changed = if granted.expires == u32::MAX {
            changes.changed().await
        } else {
            let left = u64::from(granted.expires).saturating_sub(seconds(now));
            let left = Duration::from_secs(left.max(1)).min(MAX_SLEEP);
            let changed = tokio::time::timeout(left, changes.changed()).await;
            changed.unwrap_or(Ok(()))
        };
        if changed.is_err() || valid.is_none() {
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

/// Writes which keys were used since the last time.
fn write_uses(shared: &Shared, store: &mut Store) {
    let used = std::mem::take(&mut *shared.used.lock());
    if used.is_empty() {
        return;
    }
    let ids: Vec<KeyId> = used.iter().map(|(_, id)| *id).collect();
    if let Err(error) = store.used(&ids, seconds(SystemTime::now())) {
        tracing::warn!("the last uses of API keys are not written: {error}");
    }
    // Those of a failed write are noted again with their next use.
    let index = shared.index.read();
    used.iter().for_each(|(hash, _)| index.unused(hash));
    drop(index);
    // The next use of each is noted.
    shared.turn();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scope::Scope;
    use crate::store::KeyFields;

    fn open(folder: &Path) -> (Store, Keys) {
        let pepper = Pepper::new(&[7; 32]).unwrap();
        let path = folder.join("keys.db");
        let store = Store::open(&path, pepper.clone()).unwrap();
        (store, Keys::open(&path, pepper).unwrap())
    }

    fn fields(name: &str) -> KeyFields {
        KeyFields {
            name: name.to_owned(),
            scopes: vec![Scope::parse("read").unwrap()],
            ..KeyFields::default()
        }
    }

    #[tokio::test]
    async fn change_of_another_process_is_in_effect_when_refresh_returns() {
        let folder = tempfile::tempdir().unwrap();
        let (mut store, keys) = open(folder.path());
        let now = SystemTime::now();
        let made = store.create(&fields("a"), now).unwrap();
        let text = made.key.reveal().as_bytes();
        assert_eq!(keys.refresh().await, Ok(1));
        let granted = Arc::new(keys.check(text, now).unwrap());
        assert_eq!((granted.id, granted.name()), (made.record.id, "a"));
        let waiting = keys.until_invalid(&granted);
        store.revoke(made.record.id, now).unwrap();
        assert_eq!(keys.refresh().await, Ok(0));
        assert_eq!(keys.check(text, now).unwrap_err(), CheckError::Invalid);
        assert!(!keys.is_valid(&granted, now));
        waiting.await;
    }

    #[tokio::test]
    async fn key_that_a_connection_shows_again_is_refused_as_soon_as_it_is_revoked_or_expires() {
        let folder = tempfile::tempdir().unwrap();
        let (mut store, keys) = open(folder.path());
        let now = SystemTime::now();
        let hour = Duration::from_secs(3600);
        let lasting = KeyFields {
            expires: Some(seconds(now + hour)),
            ..fields("a")
        };
        let made = store.create(&lasting, now).unwrap();
        let other = store.create(&fields("b"), now).unwrap();
        keys.refresh().await.unwrap();
        let last = LastKey::default();
        let check = |keys: &Keys, key: &ApiKey, at| {
            let granted = keys.check_again(key.reveal().as_bytes(), at, &last);
            granted.ok()
        };
        let first = check(&keys, &made.key, now).unwrap();
        let again = check(&keys, &made.key, now).unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        // Another text, and the same text at another store, are looked up.
        assert_eq!(check(&keys, &other.key, now).unwrap().id, other.record.id);
        let (_, elsewhere) = open(tempfile::tempdir().unwrap().path());
        assert!(check(&keys, &made.key, now).is_some());
        assert!(check(&elsewhere, &made.key, now).is_none());
        assert!(check(&keys, &made.key, now).is_some());
        assert!(check(&keys, &made.key, now + hour).is_none());
        assert!(check(&keys, &made.key, now).is_some());
        store.revoke(made.record.id, now).unwrap();
        keys.refresh().await.unwrap();
        assert!(check(&keys, &made.key, now).is_none());
        assert!(!keys.is_valid(&first, now));
    }

    #[tokio::test]
    async fn key_that_is_revoked_ends_those_that_wait_and_do_not_keep_the_store_open() {
        let folder = tempfile::tempdir().unwrap();
        let (mut store, keys) = open(folder.path());
        let now = SystemTime::now();
        let made = store.create(&fields("a"), now).unwrap();
        let other = store.create(&fields("b"), now).unwrap();
        keys.refresh().await.unwrap();
        let granted = |key: &ApiKey| Arc::new(keys.check(key.reveal().as_bytes(), now).unwrap());
        let ended = keys.until_invalid_while_open(&granted(&made.key));
        let lasting = keys.until_invalid_while_open(&granted(&other.key));
        store.revoke(made.record.id, now).unwrap();
        keys.refresh().await.unwrap();
        ended.await;
        let shared = Arc::downgrade(&keys.shared);
        drop(keys);
        assert!(shared.upgrade().is_none());
        let mut lasting = std::pin::pin!(lasting);
        for _ in 0..2 {
            let ended = tokio::time::timeout(Duration::ZERO, lasting.as_mut()).await;
            assert!(ended.is_err());
        }
    }

    #[tokio::test]
    async fn connection_keeps_a_fingerprint_of_its_key_that_only_the_key_has() {
        let folder = tempfile::tempdir().unwrap();
        let (mut store, keys) = open(folder.path());
        let now = SystemTime::now();
        let made = store.create(&fields("a"), now).unwrap();
        keys.refresh().await.unwrap();
        let text = made.key.reveal().as_bytes();
        let fingerprint = keys.shared.fingerprint(text);
        assert!(keys.shared.is_of(text, &fingerprint));
        let mut near = text.to_vec();
        near[10] ^= 1;
        let longer = [text, b"x"].concat();
        for wrong in [&near, &longer[..], &fingerprint.hash, &text[1..], b""] {
            assert!(!keys.shared.is_of(wrong, &fingerprint));
        }
        // Another process has other fingerprints.
        let (_, other) = open(folder.path());
        assert!(!other.shared.is_of(text, &fingerprint));
        // A wrong key in between makes a connection forget the right one.
        let last = LastKey::default();
        let first = keys.check_again(text, now, &last).unwrap();
        assert!(keys.check_again(&near, now, &last).is_err());
        let again = keys.check_again(text, now, &last).unwrap();
        assert!(!Arc::ptr_eq(&first, &again));
        assert!(Arc::ptr_eq(
            &keys.check_again(text, now, &last).unwrap(),
            &again
        ));
    }

    #[tokio::test]
    async fn use_of_a_key_that_a_connection_shows_again_is_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let (mut store, keys) = open(folder.path());
        let now = SystemTime::now();
        let made = store.create(&fields("a"), now).unwrap();
        keys.refresh().await.unwrap();
        let last = LastKey::default();
        for _ in 0..3 {
            let text = made.key.reveal().as_bytes();
            keys.check_again(text, now, &last).unwrap();
            assert_eq!(keys.shared.used.lock().len(), 1);
            write_uses(&keys.shared, &mut store);
            assert_eq!(keys.shared.used.lock().len(), 0);
        }
    }

    #[tokio::test]
    async fn change_is_seen_without_being_asked() {
        let folder = tempfile::tempdir().unwrap();
        let (mut store, keys) = open(folder.path());
        let now = SystemTime::now();
        let made = store.create(&fields("a"), now).unwrap();
        keys.refresh().await.unwrap();
        let granted = Arc::new(keys.check(made.key.reveal().as_bytes(), now).unwrap());
        let waiting = tokio::spawn(keys.until_invalid(&granted));
        store.revoke(made.record.id, now).unwrap();
        waiting.await.unwrap();
    }

    #[tokio::test]
    async fn revocation_is_seen_where_only_what_waits_for_it_has_the_keys() {
        let folder = tempfile::tempdir().unwrap();
        let (mut store, keys) = open(folder.path());
        let now = SystemTime::now();
        let made = store.create(&fields("a"), now).unwrap();
        keys.refresh().await.unwrap();
        let granted = Arc::new(keys.check(made.key.reveal().as_bytes(), now).unwrap());
        let waiting = tokio::spawn(keys.until_invalid(&granted));
        drop(keys);
        store.revoke(made.record.id, now).unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(30), waiting).await;
        ended.unwrap().unwrap();
    }

    #[tokio::test]
    async fn rotated_key_is_valid_until_the_overlap_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let (mut store, keys) = open(folder.path());
        let now = SystemTime::now();
        let hour = Duration::from_secs(3600);
        let old = store.create(&fields("a"), now).unwrap();
        let new = store.rotate(old.record.id, hour, now).unwrap();
        keys.refresh().await.unwrap();
        let check = |key: &ApiKey, at| keys.check(key.reveal().as_bytes(), at).is_ok();
        assert!(check(&old.key, now) && check(&new.key, now));
        assert!(!check(&old.key, now + hour) && check(&new.key, now + hour));
        let last = store.rotate(old.record.id, Duration::ZERO, now).unwrap();
        keys.refresh().await.unwrap();
        assert!(!check(&old.key, now) && !check(&new.key, now) && check(&last.key, now));
    }

    #[tokio::test]
    async fn each_action_is_reported_once_and_again_until_it_succeeds() {
        let folder = tempfile::tempdir().unwrap();
        let pepper = Pepper::new(&[7; 32]).unwrap();
        let path = folder.path().join("keys.db");
        let mut store = Store::open(&path, pepper.clone()).unwrap();
        let now = SystemTime::now();
        // While nothing follows the store.
        let made = store.create(&fields("a"), now).unwrap();
        let (sender, reports) = std::sync::mpsc::channel();
        let fails = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let broken = Arc::clone(&fails);
        let report = Box::new(move |action: &KeyAction| {
            if broken.load(std::sync::atomic::Ordering::Relaxed) {
                return Err("the disk is full".to_owned());
            }
            sender
                .send((action.id, action.action.clone()))
                .map_err(|error| error.to_string())
        });
        let keys = Keys::open_reporting(&path, pepper, report).unwrap();
        keys.refresh().await.unwrap();
        let id = made.record.id;
        assert_eq!(
            reports.try_iter().collect::<Vec<_>>(),
            [(id, "created".to_owned())]
        );
        fails.store(true, std::sync::atomic::Ordering::Relaxed);
        store.rotate(id, Duration::ZERO, now).unwrap();
        store.revoke(id, now).unwrap();
        let error = keys.refresh().await.unwrap_err();
        assert_eq!(error, "the disk is full");
        // It is in effect though it could not be reported.
        assert_eq!(keys.count(), 0);
        fails.store(false, std::sync::atomic::Ordering::Relaxed);
        keys.refresh().await.unwrap();
        let reported: Vec<_> = reports.try_iter().map(|(_, action)| action).collect();
        assert_eq!(reported, ["rotated", "revoked"]);
        keys.refresh().await.unwrap();
        assert_eq!(reports.try_iter().count(), 0);
    }

    #[tokio::test]
    async fn clock_that_jumps_ends_keys_and_brings_them_back_as_it_is_set_right() {
        let folder = tempfile::tempdir().unwrap();
        let pepper = Pepper::new(&[7; 32]).unwrap();
        let path = folder.path().join("keys.db");
        let mut store = Store::open(&path, pepper.clone()).unwrap();
        let now = SystemTime::now();
        let (hour, year) = (Duration::from_secs(3600), Duration::from_secs(365 * 86_400));
        let lasting = KeyFields {
            expires: Some(seconds(now + hour)),
            ..fields("a")
        };
        let made = store.create(&lasting, now).unwrap();
        let old = store.rotate(made.record.id, hour, now).unwrap();
        // The server starts while the clock is a year ahead.
        let clock = Arc::new(AtomicU64::new(seconds(now + year)));
        let shown = Arc::clone(&clock);
        let read = Box::new(move || shown.load(Ordering::SeqCst));
        let keys = Keys::follow(&path, pepper, None, read).unwrap();
        let last = LastKey::default();
        let check = |key: &ApiKey, at| {
            let text = key.reveal().as_bytes();
            let found = keys.check_again(text, at, &last).is_ok();
            assert_eq!(keys.check(text, at).is_ok(), found);
            found
        };
        assert!(!check(&made.key, now + year) && !check(&old.key, now + year));
        // It is set right, and nobody has changed the file.
        clock.store(seconds(now), Ordering::SeqCst);
        keys.refresh().await.unwrap();
        for key in [&made.key, &old.key] {
            assert!(check(key, now));
            // Ahead and back again, and before the key was made.
            assert!(!check(key, now + hour) && check(key, now) && check(key, now - year));
        }
        // A key that is revoked stays revoked, whatever the clock shows.
        store.revoke(made.record.id, now).unwrap();
        clock.store(seconds(now - year), Ordering::SeqCst);
        keys.refresh().await.unwrap();
        assert!(!check(&made.key, now - year) && !check(&old.key, now));
    }

    #[tokio::test]
    async fn last_use_is_written_once_and_not_for_each_request() {
        let folder = tempfile::tempdir().unwrap();
        let (mut store, keys) = open(folder.path());
        let now = SystemTime::now();
        let made = store.create(&fields("a"), now).unwrap();
        keys.refresh().await.unwrap();
        for _ in 0..100 {
            keys.check(made.key.reveal().as_bytes(), now).unwrap();
        }
        assert_eq!(keys.shared.used.lock().len(), 1);
        assert_eq!(store.show(made.record.id).unwrap().last_used, None);
        drop(keys);
        assert!(store.show(made.record.id).unwrap().last_used.is_some());
    }

    #[tokio::test]
    async fn server_that_is_far_behind_reads_everything() {
        let folder = tempfile::tempdir().unwrap();
        let (mut store, keys) = open(folder.path());
        let now = SystemTime::now();
        let first = store.create(&fields("a"), now).unwrap();
        keys.refresh().await.unwrap();
        store.revoke(first.record.id, now).unwrap();
        store.create(&fields("b"), now).unwrap();
        let raw = rusqlite::Connection::open(folder.path().join("keys.db")).unwrap();
        raw.execute("DELETE FROM changes WHERE number < 3", [])
            .unwrap();
        assert_eq!(keys.refresh().await, Ok(1));
        assert!(keys.check(first.key.reveal().as_bytes(), now).is_err());
    }

    #[test]
    fn text_that_is_no_key_is_not_hashed() {
        let folder = tempfile::tempdir().unwrap();
        let (_, keys) = open(folder.path());
        for text in ["", "x", "sk_stockade_", &"x".repeat(100_000)] {
            let error = keys.check(text.as_bytes(), SystemTime::now()).unwrap_err();
            assert!(matches!(error, CheckError::Form(_)), "{error}");
        }
        let unknown = ApiKey::generate().unwrap();
        let error = keys.check(unknown.reveal().as_bytes(), SystemTime::now());
        assert_eq!(error.unwrap_err(), CheckError::Invalid);
    }
}
