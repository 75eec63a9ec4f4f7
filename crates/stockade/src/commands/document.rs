//! `--json`: all that came of a guest, as one JSON document.

use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use stockade::{ConsoleLevel, End, GuestError, Limits, ResourceUsage, Stats};

use super::failure::Failure;

/// Console output that is kept, in bytes and in calls of `console`; what lies beyond is counted.
const MAX_KEPT_BYTES: usize = 16 << 20;
const MAX_KEPT_LINES: usize = 1 << 17;

/// What a guest has said.
#[derive(Default)]
pub(crate) struct Kept {
    lines: Vec<Line>,
    bytes: usize,
    rest: Rest,
    dropped: u64,
    uncaught: Vec<Thrown>,
}

/// What becomes of the further pieces of a call of `console`.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// There are none.
    #[default]
    None,
    /// They belong to the last line.
    Joined,
    /// They are dropped, as one before them was.
    Dropped,
}

/// What one call of `console` printed.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Line {
    level: &'static str,
    text: String,
}

impl Kept {
    /// Takes a piece, which ends with a newline where it is the last of a call.
    pub(crate) fn console(&mut self, level: ConsoleLevel, piece: &str) {
        let whole = piece.strip_suffix('\n');
        let text = whole.unwrap_or(piece);
        let goes_on = whole.is_none();
        let rest = std::mem::take(&mut self.rest);
        let joined = rest == Rest::Joined
            && (self.lines.last()).is_some_and(|last| last.level == level.name());
        let full = self.bytes + text.len() > MAX_KEPT_BYTES
            || (!joined && self.lines.len() >= MAX_KEPT_LINES);
        if full || rest == Rest::Dropped {
            // A call of which a piece is dropped is counted once.
            match goes_on {
                true => self.rest = Rest::Dropped,
                false => self.dropped += 1,
            }
            return;
        }
        match self.lines.last_mut() {
            Some(last) if joined => last.text.push_str(text),
            _ => self.lines.push(Line {
                level: level.name(),
                text: text.to_owned(),
            }),
        }
        self.bytes += text.len();
        if goes_on {
            self.rest = Rest::Joined;
        }
    }

    /// Takes an error that nothing caught.
    pub(crate) fn uncaught(&mut self, error: &GuestError) {
        let size = error.size();
        if self.bytes + size <= MAX_KEPT_BYTES && self.uncaught.len() < MAX_KEPT_LINES {
            self.bytes += size;
            self.uncaught.push(Thrown::new(error));
        }
    }
}

/// An error of the guest.
#[derive(Serialize)]
struct Thrown {
    name: String,
    message: String,
    stack: Option<String>,
    source: Option<String>,
    line: Option<u32>,
    column: Option<u32>,
}

impl Thrown {
    fn new(error: &GuestError) -> Self {
        let position = error.position.as_ref();
        Self {
            name: error.name.clone(),
            message: error.message.clone(),
            stack: error.stack.clone(),
            source: position.map(|at| at.source.clone()),
            line: position.map(|at| at.line),
            column: position.map(|at| at.column),
        }
    }
}

/// What the guest was held to; none is no limit. The names are those of the options of an isolate.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Held {
    isolation: &'static str,
    cpu_limit_ms: Option<f64>,
    cpu_total_ms: Option<f64>,
    wall_limit_ms: Option<f64>,
    memory_limit_mb: Option<f64>,
    timeout_ms: Option<f64>,
}

impl Held {
    pub(crate) fn new(isolation: &'static str, limits: &Limits, timeout: Duration) -> Self {
        Self {
            isolation,
            cpu_limit_ms: limits.cpu.map(ms),
            cpu_total_ms: limits.cpu_total.map(ms),
            wall_limit_ms: limits.wall.map(ms),
            memory_limit_mb: limits.memory.map(mb),
            timeout_ms: Some(timeout).filter(|timeout| !timeout.is_zero()).map(ms),
        }
    }
}

/// What it used.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Used {
    /// Of the activation that was ended.
    cpu_ms: Option<f64>,
    cpu_total_ms: f64,
    /// Of the activation that was ended.
    wall_ms: Option<f64>,
    memory_mb: f64,
    /// Since the command began.
    elapsed_ms: f64,
}

impl Used {
    pub(crate) fn new(stats: Stats, end: Option<&End>, elapsed: Duration) -> Self {
        match end {
            Some(End::Terminated { usage, .. }) => {
                let ResourceUsage {
                    cpu,
                    cpu_total,
                    wall: wall_time,
                    memory,
                } = *usage;
                Self {
                    cpu_ms: Some(ms(cpu)),
                    cpu_total_ms: ms(cpu_total),
                    wall_ms: Some(ms(wall_time)),
                    memory_mb: mb(memory),
                    elapsed_ms: ms(elapsed),
                }
            }
            _ => Self {
                cpu_ms: None,
                cpu_total_ms: ms(stats.cpu),
                wall_ms: None,
                memory_mb: mb(stats.memory),
                elapsed_ms: ms(elapsed),
            },
        }
    }
}

fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

fn mb(bytes: u64) -> f64 {
    (bytes as f64 / f64::from(1 << 20) * 100.0).round() / 100.0
}

/// The document.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    ok: bool,
    exit_code: i32,
    reason: &'static str,
    message: Option<String>,
    result: Option<Box<RawValue>>,
    error: Option<Thrown>,
    uncaught: Vec<Thrown>,
    console: Vec<Line>,
    console_dropped: u64,
    limits: Option<Held>,
    #[serde(rename = "figures")]
    usage: Option<Used>,
}

/// What a guest was started for: an exit code, and the JSON text of a value.
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) value: Option<String>,
}

/// The document of what came of a guest.
pub(crate) fn document(
    result: Result<Done, Failure>,
    kept: Kept,
    limits: Option<Held>,
    usage: Option<Used>,
) -> (String, i32) {
    let empty = Document {
        ok: false,
        exit_code: 0,
        reason: "done",
        message: None,
        result: None,
        error: None,
        uncaught: kept.uncaught,
        console: kept.lines,
        console_dropped: kept.dropped,
        limits,
        usage,
    };
    let document = match result {
        Ok(Done { code, value }) => Document {
            ok: code == 0,
            exit_code: code,
            // Of a guest that lies it may be no JSON.
            result: value.and_then(|json| RawValue::from_string(json).ok()),
            ..empty
        },
        Err(failure) => Document {
            exit_code: failure.code,
            reason: failure.reason,
            message: Some(failure.message).filter(|message| !message.is_empty()),
            error: failure.error.as_ref().map(Thrown::new),
            ..empty
        },
    };
    let code = document.exit_code;
    // A document of texts and numbers is always JSON.
    (serde_json::to_string(&document).unwrap_or_default(), code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_joins_the_pieces_of_a_call() {
        let mut kept = Kept::default();
        kept.console(ConsoleLevel::Info, "a\nb");
        kept.console(ConsoleLevel::Info, "c\n");
        kept.console(ConsoleLevel::Info, "\n");
        kept.console(ConsoleLevel::Error, "d\n");
        let line = |level, text: &str| Line {
            level,
            text: text.to_owned(),
        };
        let lines = [line("info", "a\nbc"), line("info", ""), line("error", "d")];
        assert_eq!(kept.lines, lines);
    }

    #[test]
    fn kept_beyond_its_bound_is_counted() {
        let mut kept = Kept::default();
        for _ in 0..MAX_KEPT_LINES + 3 {
            kept.console(ConsoleLevel::Info, "x\n");
        }
        assert_eq!((kept.lines.len(), kept.dropped), (MAX_KEPT_LINES, 3));
        let mut kept = Kept::default();
        kept.console(ConsoleLevel::Info, &"x".repeat(MAX_KEPT_BYTES));
        kept.console(ConsoleLevel::Info, "y\n");
        kept.console(ConsoleLevel::Info, "\n");
        assert_eq!((kept.lines.len(), kept.dropped), (2, 1));
        assert_eq!(kept.lines[0].text.len(), MAX_KEPT_BYTES);
        assert_eq!(kept.lines[1].text, "");
    }

    #[test]
    fn kept_drops_the_tail_of_a_call_that_was_dropped() {
        let mut kept = Kept::default();
        kept.console(ConsoleLevel::Info, &"x".repeat(MAX_KEPT_BYTES - 2));
        kept.console(ConsoleLevel::Info, "\n");
        kept.console(ConsoleLevel::Info, "too long");
        kept.console(ConsoleLevel::Info, "!\n");
        kept.console(ConsoleLevel::Info, "y\n");
        assert_eq!((kept.lines.len(), kept.dropped), (2, 1));
        assert_eq!(kept.lines[1].text, "y");
    }

    #[test]
    fn kept_takes_the_rest_of_the_last_line_that_there_is_room_for() {
        let mut kept = Kept::default();
        for _ in 1..MAX_KEPT_LINES {
            kept.console(ConsoleLevel::Info, "x\n");
        }
        kept.console(ConsoleLevel::Info, "a");
        kept.console(ConsoleLevel::Info, "b\n");
        assert_eq!((kept.lines.len(), kept.dropped), (MAX_KEPT_LINES, 0));
        assert_eq!(kept.lines[MAX_KEPT_LINES - 1].text, "ab");
    }

    #[test]
    fn document_of_a_failure_has_reason_code_and_place() {
        let error = GuestError {
            position: Some(stockade::Position {
                source: "guest:///a.ts".to_owned(),
                line: 3,
                column: 7,
            }),
            ..GuestError::new("no")
        };
        let limits = Held::new("thread", &Limits::default(), Duration::ZERO);
        let failure = Failure::threw(error, false);
        let (text, code) = document(Err(failure), Kept::default(), Some(limits), None);
        let found: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(code, 1);
        assert_eq!(found["reason"], "threw");
        assert_eq!(found["exitCode"], 1);
        assert_eq!(found["error"]["line"], 3);
        assert_eq!(found["error"]["source"], "guest:///a.ts");
        assert_eq!(found["limits"]["cpuLimitMs"], 500.0);
        assert_eq!(found["limits"]["timeoutMs"], serde_json::Value::Null);
        assert_eq!(found["result"], serde_json::Value::Null);
        let done = Done {
            code: 0,
            value: Some("{\"a\":[1]}".to_owned()),
        };
        let (text, _) = document(Ok(done), Kept::default(), None, None);
        assert!(text.contains("\"result\":{\"a\":[1]}"), "{text}");
    }
}
