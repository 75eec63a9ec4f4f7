//! Events as lines of the log: what is written, how it looks, and where it goes.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use arc_swap::ArcSwapOption;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use super::line::{Format, Line, now};
use super::recent::Recent;
use super::sink::Sink;
use super::terminal::{self, Said};

/// Targets of events that have a place of their own in the documentation of the log. The first three have switches of
/// their own, and the level of the log does not silence them.
pub(crate) mod target {
    /// One event for each request and each WebSocket of a client.
    pub(crate) const ACCESS: &str = "stockade::access";
    /// What guests write to their console.
    pub(crate) const CONSOLE: &str = "stockade::console";
    /// Calls of grants whose every call is recorded.
    pub(crate) const RECORD: &str = "stockade::record";
    /// What happens to an instance. The level decides about it.
    pub(crate) const INSTANCE: &str = "stockade::instance";

    /// Targets whose events have names of their own, so that their lines need no module.
    pub(super) const NAMED: [&str; 4] = [ACCESS, CONSOLE, RECORD, INSTANCE];
}

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
fn level() -> Level {
    let at = usize::from(LEVEL.load(Ordering::Relaxed));
    LEVELS.get(at).copied().unwrap_or(Level::INFO)
}

/// Makes lines of events.
pub(super) struct Lines {
    pub(super) sink: Sink,
    /// Where events of [`target::ACCESS`] go, if not with all others.
    pub(super) access: Arc<ArcSwapOption<Sink>>,
    pub(super) recent: Recent,
}

fn wanted(metadata: &Metadata<'_>) -> bool {
    let level = level();
    match metadata.target() {
        target::ACCESS | target::CONSOLE | target::RECORD => true,
        own if own.starts_with("stockade") => *metadata.level() <= level,
        _ => *metadata.level() <= level.min(Level::WARN),
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
        // Guests write to their console at this level, whatever that of the log is.
        Some(LevelFilter::from_level(level().max(Level::DEBUG)))
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        if metadata.target() == target::ACCESS
            && let Some(sink) = &*self.access.load()
        {
            return self.write(sink, event);
        }
        self.write(&self.sink, event);
    }
}

impl Lines {
    /// Writes the line of an event, and keeps it for a while.
    fn write(&self, sink: &Sink, event: &Event<'_>) {
        let metadata = event.metadata();
        // An event that was given no name has its place in the source for one.
        let name = match metadata.name() {
            place if place.starts_with("event ") => "log",
            given => given,
        };
        let level = *metadata.level();
        let Some(json) = line(event, name, true) else {
            return;
        };
        match sink.format() {
            Format::Json => sink.add(level, &json),
            Format::Text => {
                if let Some(text) = line(event, name, false) {
                    sink.add(level, &text);
                }
            }
            Format::Terminal { colours } => {
                let (mut said, origin) = record(event, Said::default());
                said.message = origin.message;
                sink.add(level, &terminal::line(colours, &now(), level, name, said));
            }
        }
        self.recent.add(level, name, &json);
    }
}

/// The line of an event as JSON or as text, unless it says nothing to an operator.
fn line(event: &Event<'_>, name: &str, json: bool) -> Option<String> {
    let metadata = event.metadata();
    let line = Line::new(json, *metadata.level(), name);
    let (mut line, origin) = record(event, line);
    let module = origin.module(metadata);
    if is_noise(module, *metadata.level()) {
        return None;
    }
    if !target::NAMED.contains(&metadata.target()) {
        line.text("module", module);
    }
    if !origin.message.is_empty() {
        line.text("message", &origin.message);
    }
    Some(line.finish())
}

/// Whether an event says nothing to an operator: rustls warns of whatever a client sends, several times for each, and
/// refused handshakes are counted.
fn is_noise(module: &str, event: Level) -> bool {
    module.starts_with("rustls") && event > Level::ERROR && level() < Level::DEBUG
}

/// Takes the fields of an event.
trait Fields {
    fn text(&mut self, name: &str, value: &str);
    /// A number or a truth value.
    fn plain(&mut self, name: &str, value: &dyn fmt::Display);
}

impl Fields for Line {
    fn text(&mut self, name: &str, value: &str) {
        Line::text(self, name, value);
    }

    fn plain(&mut self, name: &str, value: &dyn fmt::Display) {
        Line::plain(self, name, value);
    }
}

impl Fields for Said {
    fn text(&mut self, name: &str, value: &str) {
        self.fields.push((name.to_owned(), value.to_owned()));
    }

    fn plain(&mut self, name: &str, value: &dyn fmt::Display) {
        self.fields.push((name.to_owned(), value.to_string()));
    }
}

/// What of an event is no field of its line.
#[derive(Default)]
struct Origin {
    message: String,
    /// The module of a record of the crate `log`.
    module: Option<String>,
}

impl Origin {
    fn module<'a>(&'a self, metadata: &Metadata<'a>) -> &'a str {
        self.module.as_deref().unwrap_or(metadata.target())
    }
}

fn record<F: Fields>(event: &Event<'_>, fields: F) -> (F, Origin) {
    let mut recorder = Recorder {
        fields,
        origin: Origin::default(),
    };
    event.record(&mut recorder);
    (recorder.fields, recorder.origin)
}

struct Recorder<F> {
    fields: F,
    origin: Origin,
}

impl<F: Fields> Recorder<F> {
    /// A field whose name ends in `*` has further fields, which the names of the program do not know: see
    /// [`super::entries`].
    fn entries(&mut self, prefix: &str, entries: &str) {
        let entries: Vec<(String, serde_json::Value)> =
            serde_json::from_str(entries).unwrap_or_default();
        for (name, value) in entries {
            let name = format!("{prefix}{name}");
            match value {
                serde_json::Value::String(text) => self.fields.text(&name, &text),
                other => self.fields.plain(&name, &other),
            }
        }
    }
}

impl<F: Fields> Visit for Recorder<F> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let name = field.name();
        match name {
            "message" => value.clone_into(&mut self.origin.message),
            "log.target" => self.origin.module = Some(value.to_owned()),
            _ if name.starts_with("log.") => {}
            _ => match name.strip_suffix('*') {
                Some(prefix) => self.entries(prefix, value),
                None => self.fields.text(name, value),
            },
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if !field.name().starts_with("log.") {
            self.fields.plain(field.name(), &value);
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.fields.plain(field.name(), &value);
    }

    /// Durations are in milliseconds with their microseconds.
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.fields.plain(field.name(), &format_args!("{value:.3}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.fields.plain(field.name(), &value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.record_str(field, &value.to_string());
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;
    use tracing_subscriber::layer::SubscriberExt;

    use super::super::{Destination, entries, event_at};
    use super::*;

    /// What is in the file, as the lines of a log.
    fn lines(path: &Path) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines()
            .map(|line| {
                let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
                let time = line.as_object_mut().unwrap().remove("time");
                assert!(time.is_some_and(|time| time.as_str().unwrap().ends_with('Z')));
                line
            })
            .collect()
    }

    #[test]
    fn events_with_switches_of_their_own_pass_every_level_and_requests_have_their_file() {
        let folder = tempfile::tempdir().unwrap();
        let (path, access_path) = (folder.path().join("log"), folder.path().join("access"));
        let to = |path: &Path| Sink::start(Destination::File(path.to_owned()), Format::Json);
        let (sink, access) = (to(&path).unwrap(), to(&access_path).unwrap());
        let lines_layer = Lines {
            sink: sink.clone(),
            access: Arc::new(ArcSwapOption::from_pointee(access.clone())),
            recent: Recent::default(),
        };
        let mut follower = lines_layer.recent.follow(Some(0));
        let subscriber = tracing_subscriber::registry().with(lines_layer);
        tracing::subscriber::with_default(subscriber, || {
            set_level(Level::ERROR);
            let headers = [("referer", "a\u{1b}"), ("referer", "b")];
            tracing::info!(
                name: "request",
                target: target::ACCESS,
                status = 200_u16,
                duration_ms = 3.0625,
                cold = None::<bool>,
                "header.*" = entries(headers.into_iter()).as_deref(),
            );
            for level in [Level::DEBUG, Level::ERROR] {
                event_at!(level, name: "console", target: target::CONSOLE, text = "said");
                event_at!(level, name: "scaled", target: target::INSTANCE, from = 1, to = 2);
            }
            tracing::warn!(why = 1, "silenced");
            tracing::error!(why = true, "loud");
            set_level(Level::INFO);
        });
        sink.flush();
        access.flush();
        let text = std::fs::read_to_string(&access_path).unwrap();
        let fields =
            r#""status":200,"duration_ms":3.062,"header.referer":"a\u001b","header.referer":"b"}"#;
        assert!(text.ends_with(&format!("{fields}\n")), "{text}");
        assert_eq!(lines(&access_path).len(), 1);
        // Those who look on see all of them, wherever they went.
        let seen = follower.ready().unwrap().lines;
        let seen: Vec<(Level, &str)> = seen.iter().map(|line| (line.level, line.event)).collect();
        let (error, debug) = (Level::ERROR, Level::DEBUG);
        let expected = [
            (Level::INFO, "request"),
            (debug, "console"),
            (error, "console"),
        ];
        assert_eq!(seen[..3], expected);
        assert_eq!(seen[3..], [(error, "scaled"), (error, "log")]);
        assert_eq!(
            lines(&path),
            [
                json!({"level": "debug", "event": "console", "text": "said"}),
                json!({"level": "error", "event": "console", "text": "said"}),
                json!({"level": "error", "event": "scaled", "from": 1, "to": 2}),
                json!({"level": "error", "event": "log", "why": true, "module": module_path!(), "message": "loud"}),
            ]
        );
    }
}
