//! Prints what a guest says on a thread of its own: its reader may be slow, and signals and deadlines are seen to
//! meanwhile.
//!
//! Invariants:
//! 1. Nothing is lost while the reader takes it: what finds no room waits, and the guest with it.
//! 2. Time for which the reader is waited for is nobody's elapsed time.

use std::io::{ErrorKind, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::exit;
use super::failure::Failure;

/// Pieces that may wait for the writer; each is at most `MAX_CONSOLE_BYTES` long.
const WAITING: usize = 64;

/// Where a piece goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Out,
    Error,
}

struct Piece {
    stream: Stream,
    text: String,
}

/// Takes pieces of output.
pub(crate) struct Printer {
    pieces: mpsc::Sender<Piece>,
    written: oneshot::Receiver<()>,
    failed: Arc<OnceLock<std::io::Error>>,
    held: Arc<Held>,
    /// Bytes that are printed yet, where there is a limit.
    left: Option<u32>,
    cut: bool,
}

impl Printer {
    /// Starts the writer's thread. `most` are the bytes that are printed; what follows them is left out, and a line says so.
    ///
    /// # Errors
    /// When there can be no thread.
    pub(crate) fn start(held: Arc<Held>, most: Option<u32>) -> std::io::Result<Self> {
        let (pieces, mut waiting) = mpsc::channel(WAITING);
        let (done, written) = oneshot::channel();
        let failed = Arc::new(OnceLock::new());
        let failure = Arc::clone(&failed);
        std::thread::Builder::new()
            .name("output".to_owned())
            .spawn(move || {
                if let Err(error) = write(&mut waiting) {
                    // Before no more pieces are taken: who sees that looks here.
                    let _ = failure.set(error);
                }
                drop(waiting);
                // Nobody may be waiting.
                let _ = done.send(());
            })?;
        Ok(Self {
            pieces,
            written,
            failed,
            held,
            left: most,
            cut: false,
        })
    }

    /// Prints a piece, waiting while the reader takes none.
    pub(crate) async fn put(&mut self, stream: Stream, text: String) -> Result<(), Failure> {
        if let Some(left) = &mut self.left {
            let size = u32::try_from(text.len()).unwrap_or(u32::MAX);
            match left.checked_sub(size).filter(|_| !self.cut) {
                Some(rest) => *left = rest,
                None if self.cut => return Ok(()),
                None => {
                    self.cut = true;
                    let text =
                        "error: the guest printed more than --output-limit; the rest is left out\n";
                    return self.send(Stream::Error, text.to_owned()).await;
                }
            }
        }
        self.send(stream, text).await
    }

    async fn send(&self, stream: Stream, text: String) -> Result<(), Failure> {
        let sent = match self.pieces.try_send(Piece { stream, text }) {
            Ok(()) => return Ok(()),
            Err(mpsc::error::TrySendError::Full(piece)) => {
                let _held = self.held.begin();
                self.pieces.send(piece).await.is_ok()
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        };
        if sent { Ok(()) } else { Err(self.failure()) }
    }

    /// Waits until everything is written.
    pub(crate) async fn finish(self) -> Result<(), Failure> {
        let Self {
            pieces,
            written,
            failed,
            held,
            ..
        } = self;
        let _held = held.begin();
        drop(pieces);
        // A thread that is gone has written what it could.
        let _ = written.await;
        match failed.get() {
            Some(error) => Err(Failure::output(Some(error))),
            None => Ok(()),
        }
    }

    fn failure(&self) -> Failure {
        Failure::output(self.failed.get())
    }
}

impl Failure {
    /// Standard output cannot be written.
    pub(crate) fn output(error: Option<&std::io::Error>) -> Self {
        match error {
            // As with a program that the signal ends: the reader has had enough.
            Some(error) if error.kind() == ErrorKind::BrokenPipe => {
                Self::new("output_closed", String::new(), exit::OUTPUT_CLOSED)
            }
            Some(error) => {
                let message = format!("cannot write to standard output: {error}");
                Self::new("output_failed", message, exit::FAILED)
            }
            None => {
                let message = "the thread that writes the output is gone".to_owned();
                Self::new("output_failed", message, exit::FAILED)
            }
        }
    }
}

/// The writer: what has come meanwhile is written in one go.
fn write(waiting: &mut mpsc::Receiver<Piece>) -> std::io::Result<()> {
    let mut pieces = Vec::with_capacity(WAITING);
    while waiting.blocking_recv_many(&mut pieces, WAITING) > 0 {
        let mut pieces = pieces.drain(..).peekable();
        while let Some(Piece { stream, mut text }) = pieces.next() {
            while let Some(next) = pieces.next_if(|next| next.stream == stream) {
                text.push_str(&next.text);
            }
            match stream {
                Stream::Out => {
                    let mut out = std::io::stdout().lock();
                    out.write_all(text.as_bytes())?;
                    out.flush()?;
                }
                // A closed standard error needs no words.
                Stream::Error => drop(std::io::stderr().write_all(text.as_bytes())),
            }
        }
    }
    Ok(())
}

/// For how long a reader was waited for.
#[derive(Default)]
pub(crate) struct Held(Mutex<Waits>);

#[derive(Default)]
struct Waits {
    past: Duration,
    since: Option<Instant>,
}

impl Held {
    /// A wait begins, and lasts as long as what this gives.
    fn begin(&self) -> Wait<'_> {
        self.waits().since.get_or_insert_with(Instant::now);
        Wait(self)
    }

    /// All waits until now.
    pub(crate) fn total(&self) -> Duration {
        self.waits().total()
    }

    fn waits(&self) -> MutexGuard<'_, Waits> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waits {
    fn total(&self) -> Duration {
        self.past + self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

struct Wait<'a>(&'a Held);

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let mut waits = self.0.waits();
        waits.past = waits.total();
        waits.since = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_counts_waits_and_nothing_else() {
        let held = Held::default();
        assert_eq!(held.total(), Duration::ZERO);
        let wait = held.begin();
        while held.total() < Duration::from_millis(2) {
            std::thread::yield_now();
        }
        drop(wait);
        let total = held.total();
        assert!(total >= Duration::from_millis(2));
        assert_eq!(held.total(), total, "no wait, no time");
        drop(held.begin());
        assert!(held.total() >= total);
    }

    #[test]
    fn failure_of_a_closed_pipe_is_silent_and_others_are_reported() {
        let closed = Failure::output(Some(&ErrorKind::BrokenPipe.into()));
        assert_eq!((closed.code, closed.message.as_str()), (141, ""));
        let full = Failure::output(Some(&ErrorKind::StorageFull.into()));
        assert_eq!(full.code, exit::FAILED);
        assert!(full.message.starts_with("cannot write"), "{}", full.message);
    }
}
