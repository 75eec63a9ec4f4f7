//! Lines for a person at a terminal: the time, the level and the message first, then fields; a request is one short line,
//! and texts of several lines stand below, indented.
//!
//! Invariant: the first column belongs to the program. What a guest or a client wrote begins further to the right, and
//! contains no control character.

use std::fmt::Write as _;
use std::time::Duration;

use stockade_protocol::harmless_line;
use tracing::Level;

use super::line::push_value;

/// Characters of a path or a message in the first line.
const MOST_IN_LINE: usize = 400;

/// What an event says.
#[derive(Default)]
pub(super) struct Said {
    /// The text of the event itself.
    pub(super) message: String,
    /// The other fields, as the event has them.
    pub(super) fields: Vec<(String, String)>,
}

impl Said {
    fn find(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| &**value)
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.fields.iter().position(|(known, _)| known == name)?;
        Some(self.fields.remove(at).1)
    }
}

/// Marks parts of a line.
#[derive(Clone, Copy)]
struct Paint(bool);

const DIM: &str = "2";

impl Paint {
    fn put(self, out: &mut String, code: &str, text: &str) {
        if self.0 {
            let _ = write!(out, "\x1b[{code}m{text}\x1b[0m");
        } else {
            out.push_str(text);
        }
    }
}

/// The whole line of an event at this time (RFC 3339), with what stands below it and its end.
pub(super) fn line(colours: bool, time: &str, level: Level, event: &str, said: Said) -> String {
    let paint = Paint(colours);
    let mut out = String::with_capacity(256);
    // `2026-11-30T09:31:04.123456Z`: the date is known to a person who looks on.
    let short = time.get(11..23).unwrap_or(time);
    paint.put(&mut out, DIM, &harmless_line(short, 40));
    out.push(' ');
    if event == "request" {
        request(paint, &mut out, said);
    } else {
        other(paint, &mut out, level, event, said);
    }
    out
}

/// `GET /path 200 3.1ms instance`, and whatever was unusual.
fn request(paint: Paint, out: &mut String, mut said: Said) {
    let mut part = |name: &str| {
        let text = said.take(name).unwrap_or_else(|| "-".to_owned());
        harmless_line(&text, MOST_IN_LINE)
    };
    let (method, path, status) = (part("method"), part("path"), part("status"));
    let (duration, instance) = (part("duration_ms"), part("instance"));
    let code = match status.as_bytes().first() {
        Some(b'5') => "1;31",
        Some(b'4') => "33",
        Some(b'3') => "36",
        _ => "32",
    };
    let _ = write!(out, "{method:5} {path} ");
    paint.put(out, code, &status);
    let _ = write!(out, " {} ", short_milliseconds(&duration));
    paint.put(out, "1", &instance);
    // The rest of the record is for machines.
    for name in ["refused", "outcome", "cold", "retried", "api_key"] {
        if let Some(value) = said.take(name) {
            field(paint, out, name, &value);
        }
    }
    if instance == "-"
        && let Some(host) = said.take("host")
    {
        field(paint, out, "host", &host);
    }
    out.push('\n');
}

/// `3.125` milliseconds as `3.1ms`, `12034.5` as `12s`.
fn short_milliseconds(text: &str) -> String {
    let Ok(milliseconds) = text.parse::<f64>() else {
        return text.to_owned();
    };
    let duration = Duration::try_from_secs_f64(milliseconds / 1e3).unwrap_or_default();
    let seconds = duration.as_secs_f64();
    if seconds < 0.01 {
        format!("{milliseconds:.1}ms")
    } else if seconds < 1.0 {
        format!("{milliseconds:.0}ms")
    } else if seconds < 10.0 {
        format!("{seconds:.1}s")
    } else {
        format!("{seconds:.0}s")
    }
}

fn other(paint: Paint, out: &mut String, level: Level, event: &str, mut said: Said) {
    let code = match level {
        Level::ERROR => "1;31",
        Level::WARN => "33",
        Level::INFO => "32",
        _ => DIM,
    };
    paint.put(out, code, &format!("{:5}", level.as_str()));
    out.push(' ');

    // The message: the event's own, the text of a console, or the event's name with the error.
    let mut message = std::mem::take(&mut said.message);
    if message.is_empty() {
        message = match said.take("text") {
            Some(text) => text,
            None => match said.take("error") {
                Some(error) => format!("{event}: {error}"),
                None => event.to_owned(),
            },
        };
    }
    let mut lines = message.split('\n');
    let first = lines.next().unwrap_or_default();
    out.push_str(&harmless_line(first, usize::MAX));

    // Fields of one line.
    for (name, value) in &said.fields {
        if !value.contains('\n') {
            field(paint, out, name, value);
        }
    }
    out.push('\n');

    // Texts of several lines. A stack begins with the error, which is the message.
    for line in lines {
        below(paint, out, line);
    }
    let headline = said.find("stack").and_then(|stack| stack.lines().next());
    let repeated = headline.is_some_and(|headline| message.contains(headline));
    for (name, value) in &said.fields {
        if !value.contains('\n') {
            continue;
        }
        let mut lines = value.split('\n');
        if name == "stack" && repeated {
            lines.next();
        } else if name != "stack" {
            below(paint, out, &format!("{name}:"));
        }
        for line in lines {
            below(paint, out, line);
        }
    }
}

fn field(paint: Paint, out: &mut String, name: &str, value: &str) {
    out.push(' ');
    paint.put(out, DIM, &format!("{}=", harmless_line(name, 128)));
    push_value(out, value);
}

/// One line of a text of several.
fn below(paint: Paint, out: &mut String, line: &str) {
    let line = harmless_line(line, usize::MAX);
    out.push_str("    ");
    if line.starts_with("    at ") {
        paint.put(out, DIM, &line);
    } else {
        out.push_str(&line);
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: &str = "2026-11-30T09:31:04.123456Z";

    fn said(message: &str, fields: &[(&str, &str)]) -> Said {
        let text = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Said {
            message: message.to_owned(),
            fields: fields.iter().map(text).collect(),
        }
    }

    /// What stands behind the time.
    fn shown(event: &str, said: Said) -> String {
        let line = line(false, TIME, Level::WARN, event, said);
        assert!(line.starts_with("09:31:04.123 "), "{line}");
        line[13..].to_owned()
    }

    #[test]
    fn request_is_one_short_line() {
        let fields = [
            ("request_id", "0190"),
            ("client", "192.0.2.1"),
            ("method", "GET"),
            ("path", "/a?b\u{1b}[31m"),
            ("status", "200"),
            ("duration_ms", "3.125"),
            ("instance", "shop"),
        ];
        assert_eq!(
            shown("request", said("", &fields)),
            "GET   /a?b\\u{1b}[31m 200 3.1ms shop\n"
        );
        let refused = [
            ("method", "GET"),
            ("host", "other.example"),
            ("path", "/"),
            ("status", "404"),
            ("duration_ms", "1234"),
            ("outcome", "refused"),
            ("refused", "no_route"),
        ];
        assert_eq!(
            shown("request", said("", &refused)),
            "GET   / 404 1.2s - refused=no_route outcome=refused host=other.example\n"
        );
    }

    #[test]
    fn error_is_the_message_and_its_stack_stands_below() {
        let stack = "Error: outer\n    at a (guest:///main.ts:3:9)\nCaused by: RangeError: too far\n    at b\u{1b}[2J";
        let fields = [
            ("instance", "shop"),
            ("error", "Error: outer"),
            ("stack", stack),
        ];
        assert_eq!(
            shown("uncaught", said("", &fields)),
            "WARN  uncaught: Error: outer instance=shop\n        at a (guest:///main.ts:3:9)\n    Caused by: \
             RangeError: too far\n        at b\\u{1b}[2J\n"
        );
    }

    #[test]
    fn text_of_a_guest_never_reaches_the_first_column() {
        let text = "one\n09:31:04.123 ERROR forged\r\u{1b}[1A\u{202e}\n";
        let shown = shown("console", said("", &[("text", text), ("instance", "shop")]));
        assert_eq!(
            shown,
            "WARN  one instance=shop\n    09:31:04.123 ERROR forged\\u{d}\\u{1b}[1A\\u{202e}\n    \n"
        );
    }

    #[test]
    fn colours_mark_the_level_and_the_status() {
        let uncaught = line(
            true,
            TIME,
            Level::WARN,
            "uncaught",
            said("", &[("error", "x")]),
        );
        assert!(
            uncaught.contains("\u{1b}[33mWARN \u{1b}[0m uncaught: x\n"),
            "{uncaught}"
        );
        let failed = line(
            true,
            TIME,
            Level::INFO,
            "request",
            said("", &[("status", "500")]),
        );
        assert!(failed.contains("\u{1b}[1;31m500\u{1b}[0m"), "{failed}");
    }
}
