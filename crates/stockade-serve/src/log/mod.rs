//! The log: lines of the program, of requests and of guests, bounded and without secrets.

mod layer;
mod line;
mod redact;
mod sink;

use std::io;

use tracing::Level;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

pub(crate) use line::{Format, Line};
pub(crate) use redact::Redaction;
use sink::SinkChange;
pub(crate) use sink::{Destination, Sink};

/// How to log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogOptions {
    /// Lines of this level and of more serious ones are written.
    pub(crate) level: Level,
    /// How lines look.
    pub(crate) format: Format,
    /// Where they go.
    pub(crate) destination: Destination,
}

/// Another place, format or level for the log, ready to be used.
pub(crate) struct LogChange {
    output: SinkChange,
    level: Level,
}

/// The process's log. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Log {
    pub(crate) sink: Sink,
}

impl Log {
    /// Starts to log what this process says. Where a subscriber for events is installed already, as in tests, that
    /// goes on.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub(crate) fn start(options: &LogOptions) -> io::Result<Self> {
        let sink = Sink::start(options.destination.clone(), options.format)?;
        layer::set_level(options.level);
        let lines = layer::Lines(sink.clone());
        let _ = tracing_subscriber::registry().with(lines).try_init();
        Ok(Self { sink })
    }

    /// Opens what these options ask for.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub(crate) fn prepare(&self, options: &LogOptions) -> io::Result<LogChange> {
        Ok(LogChange {
            output: SinkChange::open(options.destination.clone(), options.format)?,
            level: options.level,
        })
    }

    /// Goes on with what was prepared.
    pub(crate) fn commit(&self, change: LogChange) {
        self.sink.change(change.output);
        layer::set_level(change.level);
    }

    /// A line to be filled and given to [`Log::write`].
    pub(crate) fn line(&self, level: Level, event: &str) -> Line {
        Line::new(self.sink.format(), level, event)
    }

    /// Writes a line, if it is serious enough.
    pub(crate) fn write(&self, line: Line) {
        if line.level() <= layer::level() {
            self.write_always(line);
        }
    }

    /// Writes a line that something else than its level has let through.
    pub(crate) fn write_always(&self, line: Line) {
        self.sink.add(&line.finish());
    }
}
