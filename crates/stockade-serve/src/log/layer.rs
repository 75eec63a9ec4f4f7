//! Events of this program's own crates, as lines of the log.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use super::line::Line;
use super::sink::Sink;

/// What the program says about itself from this level on; what libraries say from `WARN` on. A place in [`LEVELS`].
static LEVEL: AtomicU8 = AtomicU8::new(2);

/// The quietest first.
const LEVELS: [Level; 5] = [
    Level::ERROR,
    Level::WARN,
    Level::INFO,
    Level::DEBUG,
    Level::TRACE,
];

/// Writes less or more from now on.
pub(super) fn set_level(level: Level) {
    let at = LEVELS.iter().position(|known| *known == level);
    LEVEL.store(at.map_or(2, |at| at as u8), Ordering::Relaxed);
    tracing::callsite::rebuild_interest_cache();
}

/// Lines of this level and of more serious ones are written.
pub(super) fn level() -> Level {
    let at = usize::from(LEVEL.load(Ordering::Relaxed));
    LEVELS.get(at).copied().unwrap_or(Level::INFO)
}

/// Makes lines of events.
pub(super) struct Lines(pub(super) Sink);

fn wanted(metadata: &Metadata<'_>) -> bool {
    let level = level();
    if metadata.target().starts_with("stockade") {
        *metadata.level() <= level
    } else {
        *metadata.level() <= level.min(Level::WARN)
    }
}

impl<S: Subscriber> Layer<S> for Lines {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        // Records of the crate `log` share call sites.
        if metadata.target() == "log" {
            Interest::sometimes()
        } else if wanted(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        metadata.target() == "log" || wanted(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::from_level(level()))
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        // An event that was given no name has its place in the source for one.
        let event_name = match metadata.name() {
            place if place.starts_with("event ") => "log",
            given => given,
        };
        let mut fields = Fields {
            line: Line::new(self.0.format(), *metadata.level(), event_name),
            message: String::new(),
            target: None,
        };
        event.record(&mut fields);
        let Fields {
            mut line,
            message,
            target,
        } = fields;
        let module = target.as_deref().unwrap_or(metadata.target());
        // rustls warns of whatever a client sends, several lines each time; refused handshakes are counted.
        if module.starts_with("rustls")
            && *metadata.level() > Level::ERROR
            && level() < Level::DEBUG
        {
            return;
        }
        line.text("module", module);
        if !message.is_empty() {
            line.text("message", &message);
        }
        self.0.add(&line.finish());
    }
}

struct Fields {
    line: Line,
    message: String,
    target: Option<String>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            "log.target" => self.target = Some(value.to_owned()),
            name if name.starts_with("log.") => {}
            name => {
                self.line.text(name, value);
            }
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if !field.name().starts_with("log.") {
            self.line.number(field.name(), value);
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.line.signed(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.line.flag(field.name(), value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.record_str(field, &value.to_string());
    }
}
