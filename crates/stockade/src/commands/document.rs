//! `--json`: all that came of a guest, as one JSON document.

use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use stockade::run::{Console, Line, RESERVED_CODES, RefusedHost};
use stockade::{ConsoleLevel, End, GuestError, Limits, ResourceUsage, Stats};

use super::failure::Failure;

/// Console output and uncaught errors that are kept, in bytes each, where no option says otherwise.
pub(crate) const MAX_KEPT_BYTES: u32 = 16 << 20;

/// Errors that are kept.
const MAX_UNCAUGHT: usize = 1 << 17;

/// What a guest has said.
pub(crate) struct Kept {
    console: Console,
    uncaught: Vec<Thrown>,
    uncaught_bytes: usize,
}

impl Kept {
    /// Keeps this many bytes of console output.
    pub(crate) fn new(output: u32) -> Self {
        Self {
            console: Console::new(output as usize),
            uncaught: Vec::new(),
            uncaught_bytes: 0,
        }
    }

    /// Takes a piece, which ends with a newline where it is the last of a call.
    pub(crate) fn console(&mut self, level: ConsoleLevel, piece: &str) {
        self.console.take(level, piece);
    }

    /// Takes an error that nothing caught.
    pub(crate) fn uncaught(&mut self, error: &GuestError) {
        let size = error.size();
        if self.uncaught_bytes + size <= MAX_KEPT_BYTES as usize
            && self.uncaught.len() < MAX_UNCAUGHT
        {
            self.uncaught_bytes += size;
            self.uncaught.push(Thrown::new(error));
        }
    }
}

/// An error of the guest.
#[derive(Serialize)]
struct Thrown {
    name: String,
    message: String,
    /// The `code` of the error's own, and not of the runtime's.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    stack: Option<String>,
    source: Option<String>,
    line: Option<u32>,
    column: Option<u32>,
}

impl Thrown {
    fn new(error: &GuestError) -> Self {
        let position = error.place();
        let position = position.as_ref();
        Self {
            name: error.name.clone(),
            message: error.message.clone(),
            code: (error.code.clone()).filter(|code| !code.starts_with(RESERVED_CODES)),
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
    console_truncated: bool,
    refused: Vec<RefusedHost>,
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
    refused: Vec<RefusedHost>,
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
        console_dropped: kept.console.dropped(),
        console_truncated: kept.console.dropped() > 0,
        console: kept.console.into_lines(),
        refused,
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
        let (text, code) = document(
            Err(failure),
            Kept::new(MAX_KEPT_BYTES),
            Vec::new(),
            Some(limits),
            None,
        );
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
        let (text, _) = document(Ok(done), Kept::new(MAX_KEPT_BYTES), Vec::new(), None, None);
        assert!(text.contains("\"result\":{\"a\":[1]}"), "{text}");
    }
}
