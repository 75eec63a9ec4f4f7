//! One line of the log, as JSON or as `name=value`.

use std::fmt::Write as _;
use std::io::IsTerminal as _;

use serde::Serialize;
use tracing::Level;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Format {
    /// One JSON object a line.
    #[default]
    Json,
    /// Time, level, event and then `name=value`.
    Text,
    /// For a person who looks on: see [`super::terminal`].
    Terminal {
        /// Whether there are colours.
        colours: bool,
    },
}

impl Format {
    /// How text looks on standard error: as on a terminal where that is one, with colours where it has them and
    /// `NO_COLOR` (no-color.org) is not set. None where standard error is no terminal.
    pub(crate) fn of_terminal() -> Option<Self> {
        if !std::io::stderr().is_terminal() {
            return None;
        }
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|terminal| terminal == "dumb");
        Some(Self::Terminal {
            colours: !set("NO_COLOR") && !dumb,
        })
    }
}

/// The level as JSON has it.
pub(super) fn name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// The time of now: RFC 3339, in UTC, with microseconds.
pub(super) fn now() -> String {
    let mut time = String::with_capacity(32);
    let _ = SystemTime.format_time(&mut Writer::new(&mut time));
    time
}

/// Appends a JSON string. JSON escapes all control characters of ASCII; those beyond ASCII that turn text around or
/// end lines are escaped here.
pub(super) fn push_json(out: &mut String, value: &str) {
    let start = out.len();
    let mut bytes = std::mem::take(out).into_bytes();
    // A text is always JSON.
    let _ = value.serialize(&mut serde_json::Serializer::new(&mut bytes));
    *out = String::from_utf8(bytes).unwrap_or_default();
    let risky = |char: char| {
        matches!(char, '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}'
            | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if out[start..].contains(risky) {
        let tail = out.split_off(start);
        for char in tail.chars() {
            if risky(char) {
                let _ = write!(out, "\\u{:04x}", u32::from(char));
            } else {
                out.push(char);
            }
        }
    }
}

/// Appends a text as the value of `name=value`: as it is where it is one word, else as a JSON string.
pub(super) fn push_value(out: &mut String, value: &str) {
    let plain = |char: char| char.is_ascii_graphic() && !matches!(char, '"' | '\\' | '=');
    if !value.is_empty() && value.chars().all(plain) {
        out.push_str(value);
    } else {
        push_json(out, value);
    }
}

/// A line that is being written, as JSON or as `name=value`. Names are the program's own; texts may be anybody's:
/// neither can end the line or pass for another field.
pub(super) struct Line {
    json: bool,
    text: String,
}

impl Line {
    /// Begins a line, of JSON or of text.
    pub(super) fn new(json: bool, level: Level, event: &str) -> Self {
        let mut text = String::with_capacity(512);
        let time = now();
        let _ = if json {
            let level = name(level);
            write!(
                text,
                "{{\"time\":\"{time}\",\"level\":\"{level}\",\"event\":\"{event}\""
            )
        } else {
            write!(text, "{time} {:5} {event}", level.as_str())
        };
        Self { json, text }
    }

    fn name(&mut self, name: &str) {
        let (before, after) = if self.json {
            (",\"", "\":")
        } else {
            (" ", "=")
        };
        self.text.push_str(before);
        self.text.push_str(name);
        self.text.push_str(after);
    }

    pub(super) fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        if self.json {
            push_json(&mut self.text, value);
        } else {
            push_value(&mut self.text, value);
        }
    }

    /// A number or a truth value.
    pub(super) fn plain(&mut self, name: &str, value: impl std::fmt::Display) {
        self.name(name);
        let _ = write!(self.text, "{value}");
    }

    /// The whole line, its end included.
    pub(super) fn finish(mut self) -> String {
        self.text.push_str(if self.json { "}\n" } else { "\n" });
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_hostile_text_stays_in_its_field() {
        for json in [true, false] {
            let mut line = Line::new(json, Level::INFO, "request");
            line.text(
                "path",
                "/a\n2026 ERROR forged \"x\" level=error \u{1b}[31m\u{202e}\u{9b}",
            );
            line.plain("status", 200u32);
            let line = line.finish();
            assert_eq!(line.matches('\n').count(), 1, "{line}");
            assert!(!line.contains(['\u{1b}', '\u{202e}', '\u{9b}']), "{line}");
            if json {
                let value: serde_json::Value = serde_json::from_str(&line).unwrap();
                assert_eq!(value["status"], 200);
                assert!(value["path"].as_str().unwrap().contains("\u{202e}"));
            } else {
                assert!(line.contains(" path=\"/a\\n2026"), "{line}");
                assert!(line.ends_with(" status=200\n"), "{line}");
            }
        }
    }
}
