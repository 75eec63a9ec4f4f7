//! Where lines of the log go: standard error or a file, written by a thread of its own.
//!
//! Invariants:
//! 1. A thread that logs a line never waits for the disk or the terminal.
//! 2. At most [`MAX_WAITING`] bytes wait. What does not fit is counted, and the count is written.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tracing::Level;

use super::journal;
use super::line::{Format, Line, now};
use super::terminal::{self, Said};

/// Bytes of lines that may wait for the writer.
const MAX_WAITING: usize = 8 << 20;

/// How long [`Sink::flush`] waits.
const FLUSH_WAIT: Duration = Duration::from_secs(2);

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Destination {
    /// Standard error.
    #[default]
    StandardError,
    /// The end of this file, which is made if it is missing, readable by its owner and group.
    File(PathBuf),
}

/// Takes lines. Cheap to clone; the writer ends with the last clone, when everything is written.
#[derive(Clone)]
pub(crate) struct Sink {
    shared: Arc<Open>,
}

struct Open(Arc<SinkShared>);

impl std::ops::Deref for Open {
    type Target = SinkShared;

    fn deref(&self) -> &SinkShared {
        &self.0
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.state.lock().closed = true;
        self.0.work.notify_one();
    }
}

struct SinkShared {
    state: Mutex<SinkState>,
    /// The writer waits for work.
    work: Condvar,
    /// Others wait for the writer to be done.
    idle: Condvar,
}

struct SinkState {
    waiting: Vec<u8>,
    format: Format,
    /// Lines that are added now will be written to the journal, which wants their level in front of them.
    journal: bool,
    /// Lines dropped and not reported yet.
    dropped: u64,
    dropped_in_all: u64,
    /// Change to this before writing on.
    next: Option<Output>,
    destination: Destination,
    writing: bool,
    closed: bool,
}

enum Output {
    StandardError { journal: bool },
    File(File),
}

impl Output {
    fn is_journal(&self) -> bool {
        matches!(self, Self::StandardError { journal: true })
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::StandardError { .. } => io::stderr().write(bytes),
            Self::File(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn open(destination: &Destination) -> io::Result<Output> {
    Ok(match destination {
        Destination::StandardError => Output::StandardError {
            journal: journal::ends_in(io::stderr()),
        },
        Destination::File(path) => Output::File(
            OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o640)
                .open(path)?,
        ),
    })
}

/// A destination that is open, for a sink to go on with.
pub(crate) struct SinkChange {
    output: Output,
    destination: Destination,
    format: Format,
}

impl SinkChange {
    /// Opens the destination.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub(crate) fn open(destination: Destination, format: Format) -> io::Result<Self> {
        Ok(Self {
            output: open(&destination)?,
            destination,
            format,
        })
    }
}

impl Sink {
    /// Opens the destination and starts the writer.
    ///
    /// # Errors
    /// When the file cannot be opened, or there can be no thread.
    pub(crate) fn start(destination: Destination, format: Format) -> io::Result<Self> {
        let output = open(&destination)?;
        let shared = Arc::new(SinkShared {
            state: Mutex::new(SinkState {
                waiting: Vec::new(),
                format,
                journal: output.is_journal(),
                dropped: 0,
                dropped_in_all: 0,
                next: None,
                destination,
                writing: false,
                closed: false,
            }),
            work: Condvar::new(),
            idle: Condvar::new(),
        });
        let writer = Arc::clone(&shared);
        let _: JoinHandle<()> = std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write(&writer, output))?;
        Ok(Self {
            shared: Arc::new(Open(shared)),
        })
    }

    pub(crate) fn format(&self) -> Format {
        self.shared.state.lock().format
    }

    /// Adds a whole line, its end included.
    pub(crate) fn add(&self, level: Level, line: &str) {
        let mut state = self.shared.state.lock();
        let prefix = if state.journal {
            journal::prefix(level)
        } else {
            ""
        };
        if state.waiting.len() + prefix.len() + line.len() > MAX_WAITING {
            state.dropped += 1;
            state.dropped_in_all += 1;
            return;
        }
        let was_empty = state.waiting.is_empty();
        state.waiting.extend_from_slice(prefix.as_bytes());
        state.waiting.extend_from_slice(line.as_bytes());
        drop(state);
        if was_empty {
            self.shared.work.notify_one();
        }
    }

    /// Lines that were dropped since the start.
    pub(crate) fn dropped_in_all(&self) -> u64 {
        self.shared.state.lock().dropped_in_all
    }

    /// Goes on with another destination or format.
    pub(crate) fn change(&self, change: SinkChange) {
        let mut state = self.shared.state.lock();
        state.next = Some(change.output);
        state.destination = change.destination;
        state.format = change.format;
        drop(state);
        self.shared.work.notify_one();
    }

    /// Opens the file again, for it may have been moved away.
    ///
    /// # Errors
    /// When the file cannot be opened; then the old one is written on.
    pub(crate) fn reopen(&self) -> io::Result<()> {
        let (destination, format) = {
            let state = self.shared.state.lock();
            (state.destination.clone(), state.format)
        };
        self.change(SinkChange::open(destination, format)?);
        Ok(())
    }

    /// Waits until all lines are written, but not for long.
    pub(crate) fn flush(&self) {
        let mut state = self.shared.state.lock();
        while !state.waiting.is_empty() || state.writing {
            if self
                .shared
                .idle
                .wait_for(&mut state, FLUSH_WAIT)
                .timed_out()
            {
                return;
            }
        }
    }
}

/// The writer's thread.
fn write(shared: &SinkShared, mut output: Output) {
    let mut lines = Vec::new();
    loop {
        let mut state = shared.state.lock();
        state.writing = false;
        while state.waiting.is_empty() && state.next.is_none() {
            shared.idle.notify_all();
            if state.closed {
                return;
            }
            shared.work.wait(&mut state);
        }
        // Lines that came before the change belong to what was open then.
        let next = state.next.take();
        if let Some(next) = &next {
            state.journal = next.is_journal();
        }
        state.writing = true;
        std::mem::swap(&mut lines, &mut state.waiting);
        let dropped = std::mem::take(&mut state.dropped);
        let format = state.format;
        drop(state);
        if dropped > 0 {
            if output.is_journal() {
                lines.extend_from_slice(journal::prefix(Level::WARN).as_bytes());
            }
            lines.extend_from_slice(dropped_line(format, dropped).as_bytes());
        }
        // When the log itself cannot be written, there is nowhere to report that.
        let _ = output.write_all(&lines);
        lines.clear();
        if lines.capacity() > MAX_WAITING / 8 {
            lines = Vec::new();
        }
        if let Some(next) = next {
            output = next;
        }
    }
}

/// How many lines are missing in front of this one.
fn dropped_line(format: Format, dropped: u64) -> String {
    const EVENT: &str = "log_dropped";
    const MESSAGE: &str = "the log is written more slowly than lines come";
    match format {
        Format::Terminal { colours } => {
            let said = Said {
                message: MESSAGE.to_owned(),
                fields: vec![("lines".to_owned(), dropped.to_string())],
            };
            terminal::line(colours, &now(), Level::WARN, EVENT, said)
        }
        Format::Json | Format::Text => {
            let mut line = Line::new(format == Format::Json, Level::WARN, EVENT);
            line.plain("lines", dropped);
            line.text("message", MESSAGE);
            line.finish()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sink_file_moved_away_is_created_again() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("a.log"), folder.path().join("a.log.1"));
        let sink = Sink::start(Destination::File(path.clone()), Format::Text).unwrap();
        sink.add(Level::INFO, "one\n");
        sink.flush();
        std::fs::rename(&path, &moved).unwrap();
        sink.add(Level::INFO, "two\n");
        sink.reopen().unwrap();
        sink.add(Level::INFO, "three\n");
        // The writer may be on its way with the first two.
        sink.flush();
        let all =
            std::fs::read_to_string(&moved).unwrap() + &std::fs::read_to_string(&path).unwrap();
        assert_eq!(all, "one\ntwo\nthree\n");
        assert!(std::fs::read_to_string(&moved).unwrap().contains("two"));
    }

    #[test]
    fn sink_that_cannot_be_opened_keeps_the_old() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let sink = Sink::start(Destination::File(path.clone()), Format::Text).unwrap();
        let missing = Destination::File(folder.path().join("no/a.log"));
        assert!(SinkChange::open(missing, Format::Json).is_err());
        assert_eq!(sink.format(), Format::Text);
        sink.add(Level::INFO, "still\n");
        sink.flush();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "still\n");
    }

    #[test]
    fn sink_that_stalls_drops_and_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        rustix::fs::mkfifoat(
            rustix::fs::CWD,
            &path,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        )
        .unwrap();
        // A reader that does not read.
        let mut reader = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        let sink = Sink::start(Destination::File(path), Format::Json).unwrap();
        let line = format!("{}\n", "x".repeat((1 << 20) - 1));
        for _ in 0..20 {
            sink.add(Level::INFO, &line);
        }
        assert!(sink.dropped_in_all() >= 3, "{}", sink.dropped_in_all());
        let reading = std::thread::spawn(move || {
            let mut text = Vec::new();
            let mut buffer = vec![0; 1 << 16];
            while !text.windows(11).any(|part| part == b"log_dropped") {
                let read = io::Read::read(&mut reader, &mut buffer).unwrap();
                text.drain(..text.len().saturating_sub(64));
                text.extend_from_slice(&buffer[..read]);
            }
        });
        // The next line carries the count.
        while !reading.is_finished() {
            sink.add(Level::INFO, "y\n");
            std::thread::yield_now();
        }
        reading.join().unwrap();
    }
}
