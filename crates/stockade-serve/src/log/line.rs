//! One line of the log, as JSON or for people.

use std::fmt::Write as _;
use std::io::IsTerminal as _;

use serde::Serialize;
use stockade_protocol::harmless_line;
use tracing::Level;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Format {
    /// One JSON object a line.
    Json,
    /// Time, level, event and then `name=value`.
    #[default]
    Text,
    /// The same for somebody who looks on: a text of several lines stands in lines below, each with the
    /// instance's name in front.
    Terminal {
        /// Whether the level has a colour.
        colours: bool,
    },
}

impl Format {
    /// How text looks on standard error: as on a terminal where that is one, with colours where it has them and
    /// `NO_COLOR` (no-color.org) is not set.
    pub(crate) fn text_on_standard_error() -> Self {
        if !std::io::stderr().is_terminal() {
            return Self::Text;
        }
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|terminal| terminal == "dumb");
        Self::Terminal {
            colours: !set("NO_COLOR") && !dumb,
        }
    }
}

/// The level as JSON has it.
fn name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// A line that is being written. Names are the program's own; texts may be anybody's: neither can end the
/// line or pass for another field, and what stands below a line cannot pass for one.
pub(crate) struct Line {
    format: Format,
    level: Level,
    text: String,
    /// Whose the texts below are: the instance, or the event.
    owner: String,
    /// Texts of several lines.
    below: String,
}

impl Line {
    pub(crate) fn new(format: Format, level: Level, event: &str) -> Self {
        let mut text = String::with_capacity(256);
        let mut time = String::with_capacity(32);
        let _ = SystemTime.format_time(&mut Writer::new(&mut time));
        let _ = match format {
            Format::Json => {
                let level = name(level);
                write!(
                    text,
                    "{{\"time\":\"{time}\",\"level\":\"{level}\",\"event\":\"{event}\""
                )
            }
            Format::Text | Format::Terminal { colours: false } => {
                write!(text, "{time} {:5} {event}", level.as_str())
            }
            Format::Terminal { colours: true } => {
                let code = match level {
                    Level::ERROR => "1;31",
                    Level::WARN => "33",
                    Level::INFO => "32",
                    _ => "2",
                };
                let level = level.as_str();
                write!(
                    text,
                    "\x1b[2m{time}\x1b[0m \x1b[{code}m{level:5}\x1b[0m {event}"
                )
            }
        };
        Self {
            format,
            level,
            text,
            owner: event.to_owned(),
            below: String::new(),
        }
    }

    pub(crate) fn level(&self) -> Level {
        self.level
    }

    fn name(&mut self, name: &str) {
        let _ = match self.format {
            Format::Json => write!(self.text, ",\"{name}\":"),
            Format::Text | Format::Terminal { .. } => write!(self.text, " {name}="),
        };
    }

    pub(crate) fn text(&mut self, name: &str, value: &str) -> &mut Self {
        if matches!(self.format, Format::Terminal { .. }) {
            if name == "instance" {
                self.owner = harmless_line(value, value.len());
            }
            if value.contains('\n') {
                self.lines_below(name, value);
                return self;
            }
        }
        self.name(name);
        let plain = |char: char| char.is_ascii_graphic() && !matches!(char, '"' | '\\' | '=');
        if self.format != Format::Json && !value.is_empty() && value.chars().all(plain) {
            self.text.push_str(value);
        } else {
            self.json(value);
        }
        self
    }

    /// Each line of the text in a line of its own, below this one.
    fn lines_below(&mut self, name: &str, value: &str) {
        let mut label = match name {
            // The only text there is, of a guest's console.
            "text" => String::new(),
            name => format!("{name}: "),
        };
        for line in value.split('\n') {
            let line = harmless_line(line, usize::MAX);
            let _ = writeln!(self.below, "  [{}] {label}{line}", self.owner);
            label.clear();
        }
    }

    /// A text, where there is one.
    pub(crate) fn maybe(&mut self, name: &str, value: Option<&str>) -> &mut Self {
        if let Some(value) = value {
            self.text(name, value);
        }
        self
    }

    pub(crate) fn number(&mut self, name: &str, value: impl Into<u64>) -> &mut Self {
        self.name(name);
        let _ = write!(self.text, "{}", value.into());
        self
    }

    pub(crate) fn signed(&mut self, name: &str, value: i64) -> &mut Self {
        self.name(name);
        let _ = write!(self.text, "{value}");
        self
    }

    pub(crate) fn flag(&mut self, name: &str, value: bool) -> &mut Self {
        self.name(name);
        self.text.push_str(if value { "true" } else { "false" });
        self
    }

    /// A duration, in milliseconds.
    pub(crate) fn milliseconds(&mut self, name: &str, value: std::time::Duration) -> &mut Self {
        self.name(name);
        let _ = write!(self.text, "{:.3}", value.as_secs_f64() * 1e3);
        self
    }

    /// JSON text escapes all control characters; those beyond ASCII that turn text around or end lines
    /// are escaped here.
    fn json(&mut self, value: &str) {
        let start = self.text.len();
        let mut bytes = std::mem::take(&mut self.text).into_bytes();
        // A text is always JSON.
        let _ = value.serialize(&mut serde_json::Serializer::new(&mut bytes));
        self.text = String::from_utf8(bytes).unwrap_or_default();
        let risky = |char: char| {
            matches!(char, '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}'
                | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        };
        if self.text[start..].contains(risky) {
            let tail = self.text.split_off(start);
            for char in tail.chars() {
                if risky(char) {
                    let _ = write!(self.text, "\\u{:04x}", u32::from(char));
                } else {
                    self.text.push(char);
                }
            }
        }
    }

    /// The whole line, its end included.
    pub(crate) fn finish(mut self) -> String {
        self.text.push_str(match self.format {
            Format::Json => "}\n",
            Format::Text | Format::Terminal { .. } => "\n",
        });
        self.text.push_str(&self.below);
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_hostile_text_stays_in_its_field() {
        for format in [Format::Json, Format::Text] {
            let mut line = Line::new(format, Level::INFO, "request");
            line.text(
                "path",
                "/a\n2026 ERROR forged \"x\" level=error \u{1b}[31m\u{202e}\u{9b}",
            );
            line.number("status", 200u32);
            let line = line.finish();
            assert_eq!(line.matches('\n').count(), 1, "{line}");
            assert!(!line.contains(['\u{1b}', '\u{202e}', '\u{9b}']), "{line}");
            if format == Format::Json {
                let value: serde_json::Value = serde_json::from_str(&line).unwrap();
                assert_eq!(value["status"], 200);
                assert!(value["path"].as_str().unwrap().contains("\u{202e}"));
            } else {
                assert!(line.contains(" path=\"/a\\n2026"), "{line}");
                assert!(line.ends_with(" status=200\n"), "{line}");
            }
        }
    }

    #[test]
    fn line_on_a_terminal_shows_lines_as_lines_with_their_owner() {
        let mut line = Line::new(Format::Terminal { colours: false }, Level::INFO, "console");
        line.text("instance", "shop");
        line.text("text", "one\n2026 ERROR forged\u{1b}[31m\u{202e}\n");
        line.number("mirror", 0u32);
        let line = line.finish();
        let (head, below) = line.split_once('\n').unwrap();
        assert!(
            head.ends_with(" INFO  console instance=shop mirror=0"),
            "{head}"
        );
        assert_eq!(
            below,
            "  [shop] one\n  [shop] 2026 ERROR forged\\u{1b}[31m\\u{202e}\n  [shop] \n"
        );
    }

    #[test]
    fn line_on_a_terminal_names_other_fields_and_colours_its_level() {
        let mut line = Line::new(Format::Terminal { colours: true }, Level::WARN, "uncaught");
        line.text("error", "Error: x\n    at a.ts:1:1");
        let line = line.finish();
        assert!(
            line.contains("\u{1b}[33mWARN \u{1b}[0m uncaught\n"),
            "{line}"
        );
        assert!(
            line.ends_with("  [uncaught] error: Error: x\n  [uncaught]     at a.ts:1:1\n"),
            "{line}"
        );
    }
}
