//! Probes: CPU profiles, heap snapshots and heap statistics of a running isolate, for its host.
//!
//! Findings come in pieces and are written to a file as they come: a snapshot of any size needs little memory here.
//!
//! Invariants:
//! 1. An isolate has at most one probe, and takes no finding of one that was given up.
//! 2. A probe ends: by its last finding, with the isolate, when its file is full, or when nothing has come for
//!    [`SILENCE`] or all of it takes longer than [`LONGEST_PROBE`]. None of it waits for the guest to be willing.

use std::collections::VecDeque;
use std::fs::{File, Permissions};
use std::future::poll_fn;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use stockade_protocol::bounds::MAX_DEBUG_BYTES;
use stockade_protocol::{
    FIRST_PROBE, Finding, HeapStatistics, Probe, ProbeId, ProbeOrder, UnansweredCommands,
    harmless_line, refused_in_worker,
};
use tokio::sync::Notify;

use super::handle::IsolateHandle;
use super::probe_slot::NoProbe;
use super::side::HostIsolate;
use crate::isolate::queue::Queue;

/// Bytes of the largest file of a CPU profile, of a heap snapshot, and of heap statistics.
const LARGEST_PROFILE: u64 = 32 << 20;
const LARGEST_SNAPSHOT: u64 = 2 << 30;
const LARGEST_STATISTICS: u64 = 64 << 10;

/// The longest that a CPU profile may last.
pub const LONGEST_PROFILE: Duration = Duration::from_secs(300);

/// How long an isolate may take to its next finding: a built-in function that nothing can interrupt may run.
const SILENCE: Duration = Duration::from_secs(60);

/// How long all findings may take to come, once the isolate is to send them.
const LONGEST_PROBE: Duration = Duration::from_secs(300);

/// Characters of a reason that an isolate gives.
const MOST_REASON: usize = 500;

/// Why a probe gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The isolate has another one.
    #[error(
        "isolate #{0} is being profiled already: one profile or snapshot of an isolate at a time"
    )]
    Busy(u32),
    /// The isolate has ended.
    #[error("isolate #{id} ended before its profile was complete: {end}")]
    Ended {
        /// The number of the isolate.
        id: u32,
        /// How it ended.
        end: String,
    },
    /// The isolate's runtime could not do it.
    #[error("isolate #{id}: {why}")]
    Failed {
        /// The number of the isolate.
        id: u32,
        /// Why.
        why: String,
    },
    /// Nothing has come for too long.
    #[error(
        "isolate #{id} did not answer within {} s: it may be inside a built-in function that cannot be interrupted",
        .within.as_secs()
    )]
    Silent {
        /// The number of the isolate.
        id: u32,
        /// How long was waited.
        within: Duration,
    },
    /// More has come than the file may hold.
    #[error("isolate #{id} sent more than {limit} bytes, which is the limit")]
    TooLarge {
        /// The number of the isolate.
        id: u32,
        /// Bytes.
        limit: u64,
    },
    /// The duration is out of range.
    #[error("a CPU profile takes at most {} s, and {} s were asked for", LONGEST_PROFILE.as_secs(), .0.as_secs())]
    TooLong(Duration),
    /// The file could not be written.
    #[error("the file cannot be written: {0}")]
    Write(#[from] std::io::Error),
    /// A file could not be made.
    #[error("cannot write '{path}': {source}")]
    Create {
        /// As it was given.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
}

/// Makes a file that only its owner can read, for what a guest holds may be secret, and has it written; removes it where
/// that fails. A file that was there is replaced.
///
/// # Errors
/// When the file cannot be made, and those of `write`.
pub async fn write_private(
    path: &Path,
    write: impl AsyncFnOnce(File) -> Result<u64, ProbeError>,
) -> Result<u64, ProbeError> {
    let made = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|file| {
            // One that was there keeps its mode.
            if file.metadata()?.is_file() {
                file.set_permissions(Permissions::from_mode(0o600))?;
            }
            Ok(file)
        });
    let file = made.map_err(|source| ProbeError::Create {
        path: path.display().to_string(),
        source,
    })?;
    // A device or a pipe is not this function's to remove.
    let is_file = file.metadata().is_ok_and(|about| about.is_file());
    let written = write(file).await;
    if written.is_err() && is_file {
        // The error that counts is the other one.
        let _ = std::fs::remove_file(path);
    }
    written
}

/// A probe that its isolate has. Dropping it gives it up.
struct OpenProbe {
    isolate: Arc<HostIsolate>,
    id: ProbeId,
    queue: Arc<Queue<Finding>>,
}

impl Drop for OpenProbe {
    fn drop(&mut self) {
        self.isolate.uplink.probe.close(self.id);
        self.order(ProbeOrder::Stop);
    }
}

impl OpenProbe {
    fn start(isolate: &Arc<HostIsolate>, probe: Probe) -> Result<Self, ProbeError> {
        let open = Self::open(isolate)?;
        match open.order(ProbeOrder::Start(probe)) {
            true => Ok(open),
            false => Err(ended(isolate)),
        }
    }

    /// Takes the place of the isolate's probe.
    fn open(isolate: &Arc<HostIsolate>) -> Result<Self, ProbeError> {
        let (id, queue) = isolate.uplink.probe.open().map_err(|why| match why {
            NoProbe::Busy => ProbeError::Busy(isolate.state.id),
            NoProbe::Ended => ended(isolate),
        })?;
        Ok(Self {
            isolate: Arc::clone(isolate),
            id,
            queue,
        })
    }

    /// Gives the isolate an order; false if it has ended.
    fn order(&self, order: ProbeOrder) -> bool {
        let Some(interrupt) = self.isolate.state.interrupt_handle() else {
            return false;
        };
        if !interrupt.order(self.id, order) {
            self.isolate.state.order(self.id, order);
        }
        true
    }

    /// The next bytes; `None` when all have come.
    async fn next(&self) -> Result<Option<Vec<u8>>, ProbeError> {
        let id = self.isolate.state.id;
        let ready = poll_fn(|cx| self.queue.poll_ready(cx));
        if tokio::time::timeout(SILENCE, ready).await.is_err() {
            let within = SILENCE;
            return Err(ProbeError::Silent { id, within });
        }
        let Some((finding, size)) = self.queue.pop() else {
            return Err(ended(&self.isolate));
        };
        self.queue.release(size);
        match finding {
            Finding::Piece(bytes) => Ok(Some(bytes)),
            Finding::Message | Finding::Done => Ok(None),
            Finding::Failed(why) => Err(ProbeError::Failed {
                id,
                why: harmless_line(&why, MOST_REASON),
            }),
        }
    }

    /// Gives all bytes to `write`, which may wait for a disk, and gives their number.
    async fn pass_on<W, F>(&self, limit: u64, mut write: W) -> Result<u64, ProbeError>
    where
        W: FnMut(Vec<u8>) -> F,
        F: Future<Output = std::io::Result<()>>,
    {
        let all = async {
            let mut bytes = 0_u64;
            while let Some(piece) = self.next().await? {
                bytes = bytes.saturating_add(piece.len() as u64);
                if bytes > limit {
                    let id = self.isolate.state.id;
                    return Err(ProbeError::TooLarge { id, limit });
                }
                write(piece).await?;
            }
            Ok(bytes)
        };
        match tokio::time::timeout(LONGEST_PROBE, all).await {
            Ok(result) => result,
            Err(_) => Err(ProbeError::Silent {
                id: self.isolate.state.id,
                within: LONGEST_PROBE,
            }),
        }
    }

    async fn write_to(&self, file: File, limit: u64) -> Result<u64, ProbeError> {
        let file = Arc::new(file);
        self.pass_on(limit, |piece| {
            let file = Arc::clone(&file);
            async move {
                let write = move || (&*file).write_all(&piece);
                tokio::task::spawn_blocking(write).await?
            }
        })
        .await
    }
}

fn ended(isolate: &HostIsolate) -> ProbeError {
    let end = isolate.state.termination.end();
    ProbeError::Ended {
        id: isolate.state.id,
        end: end.map_or_else(|| "it is ending".to_owned(), |end| end.to_string()),
    }
}

/// A CPU profile that is being recorded. Dropping it gives it up.
pub struct CpuRecording(OpenProbe);

impl CpuRecording {
    /// Ends the recording and writes it to the file as a `.cpuprofile`; gives its size in bytes.
    ///
    /// # Errors
    /// When the isolate has ended or does not answer, or the file cannot be written.
    pub async fn finish(self, file: File) -> Result<u64, ProbeError> {
        self.0.order(ProbeOrder::Stop);
        self.0.write_to(file, LARGEST_PROFILE).await
    }
}

/// Why a debugger's session is over while both sides are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DebugError {
    /// The isolate takes no more, or the debugger takes no answers.
    #[error("{} MiB of the debugger's messages have no answer, which is the limit", MAX_DEBUG_BYTES >> 20)]
    Unanswered,
    /// One message is too long.
    #[error("the isolate sent a message of more than {} MiB, which is the limit", MAX_DEBUG_BYTES >> 20)]
    TooLong,
}

/// A debugger's session with an isolate of a worker. Dropping it ends it.
pub struct DebugSession {
    probe: OpenProbe,
    commands: Mutex<Commands>,
    answered: Notify,
}

/// What the debugger has sent and has no answer to.
#[derive(Default)]
struct Commands {
    /// What the isolate has not answered, and all `answers`.
    unanswered: UnansweredCommands,
    /// Answers that do not come from the isolate.
    answers: VecDeque<String>,
    /// There was no room for a command or an answer.
    over: bool,
}

impl Commands {
    /// Answers a command that does not reach the isolate.
    fn answer(&mut self, answer: String) {
        self.over |= !self.unanswered.keep(&answer);
        if !self.over {
            self.answers.push_back(answer);
        }
    }

    /// Counts a command for the isolate; false if the session is over.
    fn sent(&mut self, command: &str) -> bool {
        self.over |= !self.unanswered.sent(command);
        !self.over
    }

    fn next_answer(&mut self) -> Option<String> {
        let answer = self.answers.pop_front()?;
        self.unanswered.release(&answer);
        Some(answer)
    }
}

impl DebugSession {
    /// Sends the debugger's message. What V8 cannot do in a worker is answered here. The session is over where too many
    /// bytes have no answer.
    pub fn send(&self, text: String) {
        let mut commands = self.commands.lock();
        if let Some(answer) = refused_in_worker(&text) {
            commands.answer(answer);
            return self.answered.notify_one();
        }
        if !commands.sent(&text) {
            return self.answered.notify_one();
        }
        drop(commands);
        if let Some(interrupt) = self.probe.isolate.state.interrupt_handle() {
            interrupt.debug(self.probe.id, text);
        }
    }

    /// The isolate's next message; `None` when the session is over with the isolate. The isolate waits until its messages
    /// are taken.
    ///
    /// # Errors
    /// Why the session is over otherwise.
    pub async fn next(&self) -> Option<Result<String, DebugError>> {
        let queue = &self.probe.queue;
        let mut text = Vec::new();
        loop {
            {
                let mut commands = self.commands.lock();
                if commands.over {
                    return Some(Err(DebugError::Unanswered));
                }
                if text.is_empty()
                    && let Some(answer) = commands.next_answer()
                {
                    return Some(Ok(answer));
                }
            }
            let Some((finding, size)) = queue.pop() else {
                if queue.is_closed() {
                    return None;
                }
                tokio::select! {
                    () = poll_fn(|cx| queue.poll_ready(cx)) => {}
                    () = self.answered.notified() => {}
                }
                continue;
            };
            queue.release(size);
            match finding {
                Finding::Piece(piece) if text.len() + piece.len() <= MAX_DEBUG_BYTES => {
                    text.extend_from_slice(&piece);
                }
                Finding::Piece(_) => return Some(Err(DebugError::TooLong)),
                Finding::Message => {
                    let text = String::from_utf8(text).ok()?;
                    self.commands.lock().unanswered.received(&text);
                    return Some(Ok(text));
                }
                Finding::Done | Finding::Failed(_) => return None,
            }
        }
    }
}

impl IsolateHandle {
    /// Lets a debugger into an isolate of a worker that was created with `inspect`.
    ///
    /// # Errors
    /// When the isolate has ended or has another probe.
    pub fn debug(&self) -> Result<DebugSession, ProbeError> {
        let probe = OpenProbe::start(self.isolate(), Probe::Debugger)?;
        Ok(DebugSession {
            probe,
            commands: Mutex::default(),
            answered: Notify::new(),
        })
    }

    /// Begins to record where the guest spends its CPU time.
    ///
    /// # Errors
    /// When the isolate has ended or has another probe.
    pub fn record_cpu(&self) -> Result<CpuRecording, ProbeError> {
        OpenProbe::start(self.isolate(), Probe::CpuProfile).map(CpuRecording)
    }

    /// The recording of an isolate that was created with `record_cpu`; once.
    #[must_use]
    pub fn recording(&self) -> Option<CpuRecording> {
        let isolate = Arc::clone(self.isolate());
        let queue = isolate.uplink.probe.queue(FIRST_PROBE).ok().flatten()?;
        let recorded = isolate.state.options.record_cpu;
        recorded.then_some(CpuRecording(OpenProbe {
            isolate,
            id: FIRST_PROBE,
            queue,
        }))
    }

    /// Records for this time, at most [`LONGEST_PROFILE`], and writes a `.cpuprofile` to the file; gives its size in
    /// bytes.
    ///
    /// # Errors
    /// As [`IsolateHandle::record_cpu`] and [`CpuRecording::finish`].
    pub async fn cpu_profile(&self, time: Duration, file: File) -> Result<u64, ProbeError> {
        if time > LONGEST_PROFILE {
            return Err(ProbeError::TooLong(time));
        }
        let recording = self.record_cpu()?;
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            () = self.until_end() => {}
        }
        recording.finish(file).await
    }

    /// Writes what the guest's heap holds to the file as a `.heapsnapshot`; gives its size in bytes. Garbage is collected
    /// before, and the guest stands still meanwhile.
    ///
    /// # Errors
    /// When the isolate has ended, has another probe, has not the memory for it or does not answer, or the file cannot
    /// be written.
    pub async fn heap_snapshot(&self, file: File) -> Result<u64, ProbeError> {
        let probe = OpenProbe::open(self.isolate())?;
        // The worker is lent memory first, for which the launcher is asked.
        let ordering = tokio::task::spawn_blocking(move || {
            let order = ProbeOrder::Start(Probe::HeapSnapshot { more: 0 });
            (probe.order(order), probe)
        });
        let (ordered, probe) = ordering.await.map_err(std::io::Error::other)?;
        if !ordered {
            return Err(ended(self.isolate()));
        }
        probe.write_to(file, LARGEST_SNAPSHOT).await
    }

    /// How large the guest's heap is and of what it consists.
    ///
    /// # Errors
    /// When the isolate has ended, has another probe or does not answer.
    pub async fn heap_statistics(&self) -> Result<HeapStatistics, ProbeError> {
        let probe = OpenProbe::start(self.isolate(), Probe::HeapStatistics)?;
        let mut text = Vec::new();
        let write = |piece: Vec<u8>| {
            text.extend_from_slice(&piece);
            std::future::ready(Ok(()))
        };
        probe.pass_on(LARGEST_STATISTICS, write).await?;
        HeapStatistics::read(&text).map_err(|why| ProbeError::Failed { id: self.id(), why })
    }
}
