//! The writer: a queue, and a thread that writes what is in it.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::{Condvar, Mutex};
use rustix::fs::{FlockOperation, flock};

use crate::AuditError;
use crate::chain::{Chain, Digest, RETENTION};
use crate::key::SigningKey;
use crate::record::Record;
use crate::segment::{self, Segment};
use crate::verify::{Walk, head};

/// Bytes of records that may wait for the writer.
const MAX_WAITING: usize = 8 << 20;

/// Records that are written at once.
const MAX_BATCH: usize = 4096;

/// Lines after which there is a checkpoint at the latest.
const CHECKPOINT_LINES: u64 = 1000;

/// How long a line may be on its way to the disk.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// How long after a failure the writer tries again.
const RETRY: Duration = Duration::from_secs(1);

/// What an audit log is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditOptions {
    /// Where its files are. It is made if it is missing, for its owner alone.
    pub folder: PathBuf,
    /// The signing key; `key` in the folder if there is none.
    pub key: Option<PathBuf>,
    /// Bytes of a file, from which on the next one is begun.
    pub file_size: u64,
    /// Files that are kept; the oldest are removed.
    pub files: usize,
    /// How long a file is kept after its last line.
    pub keep: Option<Duration>,
    /// How long a line may wait for a checkpoint.
    pub checkpoint: Duration,
}

impl AuditOptions {
    /// The defaults, for a folder: files of 64 MiB, 100 of them, for ever, and a checkpoint each minute.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            key: None,
            file_size: 64 << 20,
            files: 100,
            keep: None,
            checkpoint: Duration::from_secs(60),
        }
    }
}

/// How the writer is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditStatus {
    /// The number of the last line that was written.
    pub last: u64,
    /// Records that did not fit into the queue.
    pub dropped: u64,
    /// Why the last attempt to write failed, until one succeeds.
    pub failing: Option<String>,
}

/// Takes records. Cheap to clone. With the last clone, the writer writes what waits and a checkpoint, and ends.
#[derive(Clone)]
pub struct AuditLog {
    open: Arc<Open>,
}

struct Open {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.shared.state.lock().closed = true;
        self.shared.work.notify_one();
        if let Some(writer) = self.writer.lock().take() {
            let _ = writer.join();
        }
    }
}

struct Shared {
    state: Mutex<State>,
    /// The writer waits for work.
    work: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Pending>,
    /// Bytes of `waiting`.
    bytes: usize,
    /// Records dropped and not recorded yet.
    dropped: u64,
    status: AuditStatus,
    closed: bool,
}

struct Pending {
    at: SystemTime,
    record: Record,
    /// Is waiting for the line to be on the disk.
    confirm: Option<SyncSender<Result<(), String>>>,
}

impl AuditLog {
    /// Opens or makes the log in a folder, checks the lines of its last file, and starts the writer.
    ///
    /// A line that was being written when the last writer ended is cut off, and a line says so.
    ///
    /// # Errors
    ///
    /// When another process writes to the folder, the key cannot be used, the last file is not what was written, or
    /// the system refuses.
    pub fn open(options: AuditOptions) -> Result<Self, AuditError> {
        let mut writer = Writer::open(options)?;
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            work: Condvar::new(),
        });
        let theirs = Arc::clone(&shared);
        let handle = std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || writer.run(&theirs))
            .map_err(AuditError::file("audit"))?;
        Ok(Self {
            open: Arc::new(Open {
                shared,
                writer: Mutex::new(Some(handle)),
            }),
        })
    }

    /// Adds a record. Never waits; a record that does not fit is counted, and a line `audit_dropped` gives the count.
    pub fn record(&self, record: Record) {
        self.add(record, None);
    }

    /// Adds a record and waits until it is on the disk. For what must not happen unrecorded; it blocks the thread.
    ///
    /// # Errors
    ///
    /// When the line cannot be written now. It may be written later.
    pub fn confirm(&self, record: Record) -> Result<(), AuditError> {
        let (confirm, confirmed) = sync_channel(1);
        self.add(record, Some(confirm));
        let answer = confirmed.recv();
        answer
            .unwrap_or_else(|_| Err("more records wait than fit into its queue".to_owned()))
            .map_err(|why| AuditError::Unconfirmed { why })
    }

    /// How the writer is doing.
    #[must_use]
    pub fn status(&self) -> AuditStatus {
        self.open.shared.state.lock().status.clone()
    }

    fn add(&self, record: Record, confirm: Option<SyncSender<Result<(), String>>>) {
        let shared = &self.open.shared;
        let size = record.fields().len();
        let mut state = shared.state.lock();
        if state.bytes + size > MAX_WAITING {
            state.dropped += 1;
            state.status.dropped += 1;
            return;
        }
        state.bytes += size;
        let wakes = state.waiting.is_empty() || confirm.is_some();
        state.waiting.push_back(Pending {
            at: SystemTime::now(),
            record,
            confirm,
        });
        drop(state);
        if wakes {
            shared.work.notify_one();
        }
    }
}

/// What the thread has.
struct Writer {
    options: AuditOptions,
    key: SigningKey,
    segment: Segment,
    file: File,
    /// Bytes of the file that are whole lines.
    length: u64,
    chain: Chain,
    /// Lines that are made and not written, because the last attempt failed.
    unwritten: Vec<u8>,
    unsynced: bool,
    last_sync: Instant,
    last_checkpoint: Instant,
    /// The number that `head` is to have, once the checkpoint is on the disk.
    head: Option<u64>,
    /// Held as long as this process writes.
    _lock: File,
}

impl Writer {
    fn open(options: AuditOptions) -> Result<Self, AuditError> {
        let folder = options.folder.as_path();
        make_folder(folder).map_err(AuditError::file(folder))?;
        let lock = lock(folder)?;
        let key = SigningKey::open(&options.key.clone().unwrap_or_else(|| folder.join("key")))?;
        let public = folder.join("key.pub");
        fs::write(&public, key.public().to_line()).map_err(AuditError::file(public))?;

        // The last file alone: the others were checked when they were the last, and `verify` checks all.
        let mut chain = Chain::EMPTY;
        let mut cut = None;
        let last = segment::all(folder)?.pop();
        if let Some(last) = &last {
            let mut walk = Walk::new(None);
            cut = walk.segment(last)?;
            if walk.chain.next > 1 {
                chain = walk.chain;
            }
            if let Some(head) = head(folder)?
                && chain.next <= head
            {
                return Err(AuditError::Cut {
                    path: last.path.clone(),
                    why: format!(
                        "it ends with line {}, but a checkpoint was line {head}: lines were cut off its end\n  fix: keep \
                         the folder for an investigation, and name another one",
                        chain.next - 1
                    ),
                });
            }
        }
        let segment = last.unwrap_or_else(|| Segment::new(folder, 1));
        let file = segment.append()?;
        let length = match cut {
            Some(length) => {
                file.set_len(length)
                    .map_err(AuditError::file(&segment.path))?;
                length
            }
            None => {
                let metadata = file.metadata().map_err(AuditError::file(&segment.path))?;
                metadata.len()
            }
        };
        let now = Instant::now();
        let mut writer = Self {
            options,
            key,
            segment,
            file,
            length,
            chain,
            unwritten: Vec::new(),
            unsynced: false,
            last_sync: now,
            last_checkpoint: now,
            head: None,
            _lock: lock,
        };
        if cut.is_some() {
            let recovered = Record::new("audit_recovered").text(
                "message",
                "a line was being written when the last writer ended",
            );
            writer.push(&recovered, SystemTime::now());
        }
        Ok(writer)
    }

    fn push(&mut self, record: &Record, at: SystemTime) {
        self.chain.push(record, at, &mut self.unwritten);
    }

    /// Writes what comes, until the log is closed and everything is written, or cannot be.
    fn run(&mut self, shared: &Shared) {
        loop {
            let (batch, dropped, closed) = self.wait(shared);

            // Lines of the batch. What the last attempt could not write stays in front of them.
            let mut confirms = Vec::new();
            for pending in batch {
                self.push(&pending.record, pending.at);
                confirms.extend(pending.confirm);
            }
            if dropped > 0 {
                let record = Record::new("audit_dropped").number("records", dropped);
                self.push(&record, SystemTime::now());
            }
            if closed
                || self.chain.unsigned >= CHECKPOINT_LINES
                || self.last_checkpoint.elapsed() >= self.options.checkpoint
            {
                self.checkpoint();
            }

            let result = self.write(closed || !confirms.is_empty());
            let failed = result.err().map(|error| error.to_string());
            let mut state = shared.state.lock();
            let failed_before = state.status.failing.is_some();
            match &failed {
                Some(why) if !failed_before => {
                    tracing::error!("the audit log cannot be written, records wait: {why}")
                }
                None if failed_before => tracing::info!("the audit log is written again"),
                _ => {}
            }
            state.status.failing.clone_from(&failed);
            if failed.is_some() {
                let waiting = state.waiting.iter_mut();
                confirms.extend(waiting.filter_map(|pending| pending.confirm.take()));
            } else {
                state.status.last = self.chain.next - 1;
            }
            for confirm in confirms {
                let _ = confirm.send(failed.clone().map_or(Ok(()), Err));
            }
            if closed && (failed.is_some() || state.waiting.is_empty()) {
                return;
            }
            // A disk that is full may have room later. Meanwhile records wait, up to the bound of the queue.
            if failed.is_some() && !state.closed {
                let _ = shared.work.wait_for(&mut state, RETRY);
            }
        }
    }

    /// Waits for records, or until something else is due. Returns them, how many were dropped, and whether the log was
    /// closed. While lines of earlier records are not written, records stay in the queue, which has a bound.
    fn wait(&self, shared: &Shared) -> (Vec<Pending>, u64, bool) {
        let mut state = shared.state.lock();
        if !self.unwritten.is_empty() {
            return (Vec::new(), 0, state.closed);
        }
        while state.waiting.is_empty() && !state.closed {
            let Some(due) = self.due() else {
                shared.work.wait(&mut state);
                continue;
            };
            if shared.work.wait_until(&mut state, due).timed_out() {
                break;
            }
        }
        let count = state.waiting.len().min(MAX_BATCH);
        let batch: Vec<Pending> = state.waiting.drain(..count).collect();
        let size: usize = batch.iter().map(|one| one.record.fields().len()).sum();
        state.bytes = state.bytes.saturating_sub(size);
        let dropped = std::mem::take(&mut state.dropped);
        (batch, dropped, state.closed)
    }

    /// When there is something to do without a record.
    fn due(&self) -> Option<Instant> {
        let sync = self.unsynced.then(|| self.last_sync + SYNC_EVERY);
        let checkpoint =
            (self.chain.unsigned > 0).then(|| self.last_checkpoint + self.options.checkpoint);
        [sync, checkpoint].into_iter().flatten().min()
    }

    fn checkpoint(&mut self) {
        if self.chain.unsigned > 0 {
            self.head = Some(self.chain.next);
            self.chain
                .checkpoint(&self.key, SystemTime::now(), &mut self.unwritten);
        }
        self.last_checkpoint = Instant::now();
    }

    fn write(&mut self, sync: bool) -> Result<(), AuditError> {
        let lines = self.unwritten.len() as u64;
        if lines > 0 {
            if let Err(error) = self.file.write_all(&self.unwritten) {
                // What was written of them is cut off, so that they are not there twice.
                let _ = self.file.set_len(self.length);
                let failed = AuditError::file(&self.segment.path)(error);
                // Its disk may come back as another file.
                self.file = self.segment.append()?;
                return Err(failed);
            }
            self.unwritten.clear();
            self.unwritten.shrink_to(1 << 20);
            self.length += lines;
            self.unsynced = true;
        }
        let full = self.length >= self.options.file_size;
        if self.unsynced
            && (sync || full || self.head.is_some() || self.last_sync.elapsed() >= SYNC_EVERY)
        {
            self.file
                .sync_data()
                .map_err(AuditError::file(&self.segment.path))?;
            self.unsynced = false;
            self.last_sync = Instant::now();
            if let Some(number) = self.head {
                self.write_head(number)?;
                self.head = None;
            }
        }
        if full {
            self.next_segment()?;
        }
        Ok(())
    }

    /// Says which line is the last checkpoint, after that line is on the disk.
    fn write_head(&self, number: u64) -> Result<(), AuditError> {
        let (path, part) = (
            self.options.folder.join("head"),
            self.options.folder.join("head.new"),
        );
        let write = || -> io::Result<()> {
            let mut file = File::create(&part)?;
            writeln!(file, "{number}")?;
            file.sync_data()?;
            fs::rename(&part, &path)
        };
        write().map_err(AuditError::file(path.clone()))
    }

    fn next_segment(&mut self) -> Result<(), AuditError> {
        let next = Segment::new(&self.options.folder, self.chain.next);
        self.file = next.append()?;
        self.segment = next;
        self.length = 0;
        self.remove_old()
    }

    /// Removes the files that are too old or too many. Before that, a line names the last line that is removed.
    fn remove_old(&mut self) -> Result<(), AuditError> {
        let segments = segment::all(&self.options.folder)?;
        let too_many = segments.len().saturating_sub(self.options.files.max(1));
        let too_old = |one: &Segment| {
            let age = fs::metadata(&one.path)
                .and_then(|metadata| metadata.modified())
                .ok()
                .and_then(|modified| modified.elapsed().ok());
            self.options
                .keep
                .is_some_and(|keep| age.is_some_and(|age| age > keep))
        };
        let gone: Vec<&Segment> = segments
            .iter()
            .enumerate()
            .take_while(|(index, one)| {
                one.first < self.segment.first && (*index < too_many || too_old(one))
            })
            .map(|(_, one)| one)
            .collect();
        let Some(after) = segments.get(gone.len()).filter(|_| !gone.is_empty()) else {
            return Ok(());
        };
        // The line after them names the digest of the last of them.
        let previous = match after.first == self.chain.next {
            true => self.chain.previous,
            false => first_previous(after)?,
        };
        let record = Record::new(RETENTION)
            .number("removed_through", after.first - 1)
            .text("removed_digest", &previous.to_string())
            .number("files", gone.len() as u64);
        self.push(&record, SystemTime::now());
        self.checkpoint();
        self.write(true)?;
        for one in gone {
            fs::remove_file(&one.path).map_err(AuditError::file(&one.path))?;
        }
        Ok(())
    }
}

/// What the first line of a file names as the line before it.
fn first_previous(segment: &Segment) -> Result<Digest, AuditError> {
    let mut reader = segment::SegmentReader::open(&segment.path)?;
    let Some(segment::RawLine::Whole(line)) = reader.next_line()? else {
        return Err(reader.broken("it has no line"));
    };
    serde_json::from_slice::<crate::chain::Link>(&line)
        .ok()
        .and_then(|link| Digest::parse(&link.previous))
        .ok_or_else(|| reader.broken("it is not a line of an audit log"))
}

fn make_folder(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(folder)
        .map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => io::Error::new(
                io::ErrorKind::NotADirectory,
                "it is there, and is not a folder",
            ),
            _ => error,
        })
}

fn lock(folder: &Path) -> Result<File, AuditError> {
    let path = folder.join("lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(AuditError::file(&path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(AuditError::Locked { path }),
        Err(error) => Err(AuditError::file(path)(error.into())),
    }
}
