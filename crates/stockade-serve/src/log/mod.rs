//! The log: lines of the program, of requests and of guests, bounded and without secrets.

mod layer;
mod line;
mod redact;
mod sink;

use std::io;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

pub(crate) use line::{Format, Line};
pub(crate) use redact::Redaction;
pub(crate) use sink::Destination;
pub(crate) use sink::Sink;

/// How to log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct LogOptions {
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub(crate) level: String,
    /// How lines look.
    pub(crate) format: Format,
    /// Where they go.
    pub(crate) destination: Destination,
}

/// The process's log. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Log {
    pub(crate) sink: Sink,
}

impl Log {
    /// Starts to log what this process says. Where something else hears events already, as in tests, that
    /// goes on.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub(crate) fn start(options: &LogOptions) -> io::Result<Self> {
        let sink = Sink::start(options.destination.clone(), options.format)?;
        layer::set_level(&options.level);
        let lines = layer::Lines(sink.clone());
        let _ = tracing_subscriber::registry().with(lines).try_init();
        Ok(Self { sink })
    }

    /// Goes on with these options.
    ///
    /// # Errors
    /// When the file cannot be opened; then nothing has changed.
    pub(crate) fn change(&self, options: &LogOptions) -> io::Result<()> {
        self.sink
            .change(options.destination.clone(), options.format)?;
        layer::set_level(&options.level);
        Ok(())
    }

    /// A line to be filled and given to [`Log::write`].
    pub(crate) fn line(&self, level: &'static str, event: &str) -> Line {
        Line::new(self.sink.format(), level, event)
    }

    /// Writes a line, if it is serious enough.
    pub(crate) fn write(&self, line: Line) {
        if layer::is_wanted(line.level()) {
            self.write_always(line);
        }
    }

    /// Writes a line that something else than its level has let through.
    pub(crate) fn write_always(&self, line: Line) {
        self.sink.add(&line.finish());
    }
}
