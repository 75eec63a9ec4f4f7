//! The log: events of the program, of requests and of guests as lines, bounded and without secrets.
//!
//! Everything is an event of `tracing`, and [`layer`] alone makes lines of them.

mod journal;
mod layer;
mod line;
mod recent;
mod redact;
mod sink;
mod terminal;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use serde::Deserialize;
use tracing::Level;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

pub(crate) use layer::target;
pub(crate) use line::Format;
pub(crate) use recent::{Follower, Recent, RecentLine};
pub(crate) use redact::Redaction;
pub(crate) use sink::Destination;
use sink::Sink;
use sink::SinkChange;

/// How to log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogOptions {
    /// Lines of this level and of more serious ones are written.
    pub(crate) level: Level,
    /// How lines look.
    pub(crate) format: Format,
    /// Where they go.
    pub(crate) destination: Destination,
    /// Where lines about requests go, if not with all others, and how they look there.
    pub(crate) access: Option<(Destination, Format)>,
}

/// Another place, format or level for the log, ready to be used.
pub(crate) struct LogChange {
    output: SinkChange,
    access: Option<Arc<Sink>>,
    level: Level,
}

/// The process's log. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Log {
    sink: Sink,
    access: Arc<ArcSwapOption<Sink>>,
    recent: Recent,
}

/// Why the log cannot be written to a place.
pub(crate) struct LogError {
    pub(crate) destination: Destination,
    pub(crate) source: io::Error,
}

fn failed(destination: &Destination) -> impl FnOnce(io::Error) -> LogError {
    let destination = destination.clone();
    move |source| LogError {
        destination,
        source,
    }
}

fn access(options: &LogOptions) -> Result<Option<Arc<Sink>>, LogError> {
    let Some((destination, format)) = &options.access else {
        return Ok(None);
    };
    let sink = Sink::start(destination.clone(), *format).map_err(failed(destination))?;
    Ok(Some(Arc::new(sink)))
}

impl Log {
    /// Starts to log what this process says. Where a subscriber for events is installed already, as in tests, that
    /// goes on.
    ///
    /// # Errors
    /// When a file cannot be opened.
    pub(crate) fn start(options: &LogOptions) -> Result<Self, LogError> {
        let destination = &options.destination;
        let sink = Sink::start(destination.clone(), options.format).map_err(failed(destination))?;
        let access = Arc::new(ArcSwapOption::new(access(options)?));
        layer::set_level(options.level);
        let lines = layer::Lines {
            sink: sink.clone(),
            access: Arc::clone(&access),
            recent: Recent::default(),
        };
        let recent = lines.recent.clone();
        let _ = tracing_subscriber::registry().with(lines).try_init();
        Ok(Self {
            sink,
            access,
            recent,
        })
    }

    /// Opens what these options ask for.
    ///
    /// # Errors
    /// When a file cannot be opened.
    pub(crate) fn prepare(&self, options: &LogOptions) -> Result<LogChange, LogError> {
        let destination = &options.destination;
        let output = SinkChange::open(destination.clone(), options.format);
        Ok(LogChange {
            output: output.map_err(failed(destination))?,
            access: access(options)?,
            level: options.level,
        })
    }

    /// Goes on with what was prepared.
    pub(crate) fn commit(&self, change: LogChange) {
        self.sink.change(change.output);
        self.access.store(change.access);
        layer::set_level(change.level);
    }

    /// Opens all files again, since they may have been moved away.
    pub(crate) fn reopen(&self) {
        let access = self.access.load();
        for sink in std::iter::once(&self.sink).chain(access.as_deref()) {
            if let Err(error) = sink.reopen() {
                tracing::error!(%error, "a log file cannot be reopened");
            }
        }
    }

    /// The last lines, wherever they go.
    pub(crate) fn recent(&self) -> &Recent {
        &self.recent
    }

    /// Lines that were dropped since the start, because they came faster than they could be written.
    pub(crate) fn dropped_in_all(&self) -> u64 {
        self.sink.dropped_in_all()
    }

    /// Waits until all lines are written, but not for long.
    pub(crate) fn flush(&self) {
        self.sink.flush();
    }
}

/// A line of JSON as a terminal shows it, with its end and what stands below it. None where it is not a line of the log.
#[must_use]
pub fn show_line(json: &str, colours: bool) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        time: String,
        level: String,
        event: String,
        #[serde(flatten)]
        fields: serde_json::Map<String, serde_json::Value>,
    }
    let line: Named = serde_json::from_str(json).ok()?;
    let mut said = terminal::Said::default();
    for (name, value) in line.fields {
        let text = match value {
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        };
        match &*name {
            "message" => said.message = text,
            _ => said.fields.push((name, text)),
        }
    }
    let level = line.level.parse().ok()?;
    Some(terminal::line(
        colours,
        &line.time,
        level,
        &line.event,
        said,
    ))
}

/// Further fields of an event whose names come from the configuration, for a field whose name is that of the fields with
/// `*` in the place of what differs. None where there are no entries.
pub(crate) fn entries<'a, V: serde::Serialize>(
    entries: impl Iterator<Item = (&'a str, V)>,
) -> Option<String> {
    let entries: Vec<(&str, V)> = entries.collect();
    if entries.is_empty() {
        return None;
    }
    serde_json::to_string(&entries).ok()
}

/// A duration as lines of the log have it.
pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// An event whose level is not known before it happens, with its name, its target and its fields.
macro_rules! event_at {
    ($level:expr, $($event:tt)+) => {
        match $level {
            tracing::Level::ERROR => $crate::log::event_at!(@ tracing::Level::ERROR; $($event)+),
            tracing::Level::WARN => $crate::log::event_at!(@ tracing::Level::WARN; $($event)+),
            tracing::Level::INFO => $crate::log::event_at!(@ tracing::Level::INFO; $($event)+),
            tracing::Level::DEBUG => $crate::log::event_at!(@ tracing::Level::DEBUG; $($event)+),
            tracing::Level::TRACE => $crate::log::event_at!(@ tracing::Level::TRACE; $($event)+),
        }
    };
    (@ $level:expr; name: $name:literal, target: $target:expr, $($field:tt)+) => {
        tracing::event!(name: $name, target: $target, $level, $($field)+)
    };
}
pub(crate) use event_at;
