//! What a run gave.

use std::borrow::Cow;
use std::time::Duration;

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use stockade_limits::Isolation;
use stockade_protocol::{GuestError, Position, is_source_of_guest};
use stockade_supervisor::{CallError, End, TerminateReason};
use strum::IntoStaticStr;

use super::console::Line;
use super::refused::RefusedHost;

/// How the codes of the runtime begin, which no guest can give to an error.
pub const RESERVED_CODES: &str = "stockade:";

/// The code of an error that says that a result is not JSON. Written by the realm, and by no guest.
pub const NOT_JSON: &str = "stockade:not_json";

/// The code of an error of code that does not parse. Written by `stockade_isolate`, and by no guest.
const SYNTAX: &str = "stockade:syntax";

/// Why a run gave no result. `docs/run-code.md` has the words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum ErrorKind {
    /// The guest threw.
    Thrown,
    /// The code does not parse.
    Syntax,
    /// The result is not JSON, or is too large.
    NotJson,
    /// The guest has nothing left to do, and its promise is still open.
    NeverSettles,
    /// More CPU time than [`Options::cpu`](super::Options::cpu).
    #[strum(serialize = "cpu_limit_exceeded")]
    CpuLimit,
    /// More memory than [`Options::memory`](super::Options::memory).
    #[strum(serialize = "memory_limit_exceeded")]
    MemoryLimit,
    /// More elapsed time than the timeout.
    Timeout,
    /// The host cancelled the run.
    Cancelled,
    /// The isolate was terminated for what it tried.
    PolicyViolation,
    /// The isolate or its worker crashed.
    Crashed,
    /// The isolate could not be started, or an option is wrong.
    NotStarted,
    /// The code that the host runs before the guest's threw, or never settles.
    PreludeFailed,
}

impl ErrorKind {
    /// The word for machines.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// Why a run gave no result, and where. Texts come from the guest where it threw.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {}", .kind.name(), .message)]
pub struct RunError {
    /// For machines.
    pub kind: ErrorKind,
    /// The class of what was thrown, such as `TypeError`.
    pub name: Option<String>,
    /// For people.
    pub message: String,
    /// With places in the code as it was given.
    pub stack: Option<String>,
    /// The file, the line and the column, both from 1.
    pub position: Option<Position>,
    /// The property `code` of what was thrown, if it is a text or a number: `ENOENT`. At most 256 bytes.
    pub code: Option<String>,
}

impl RunError {
    /// An error that is not one of the guest's.
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            name: None,
            message: message.into(),
            stack: None,
            position: None,
            code: None,
        }
    }

    /// What the guest threw, or what is wrong with its code or result.
    pub(crate) fn guest(error: GuestError) -> Self {
        let (kind, code) = match error.code.as_deref() {
            Some(SYNTAX) => (ErrorKind::Syntax, None),
            Some(NOT_JSON) => (ErrorKind::NotJson, None),
            code => (ErrorKind::Thrown, code.map(str::to_owned)),
        };
        Self {
            kind,
            position: error.place(),
            // With what it came of, and without the runtime's own frames.
            stack: (error.stack.is_some() || !error.related.is_empty()).then(|| error.trace()),
            name: Some(error.name),
            message: error.message,
            code,
        }
    }

    /// This error as one of the prelude, the host's code that runs before that of the guest.
    pub(crate) fn of_prelude(self) -> Self {
        let kind = match self.kind {
            ErrorKind::Thrown
            | ErrorKind::Syntax
            | ErrorKind::NotJson
            | ErrorKind::NeverSettles => ErrorKind::PreludeFailed,
            other => other,
        };
        Self { kind, ..self }
    }

    /// Why an evaluation has no reply.
    pub(crate) fn no_reply(error: CallError, end: Option<End>) -> Self {
        match (error, end) {
            (CallError::Guest(error), _) => Self::guest(error),
            (_, Some(End::Terminated { reason, detail, .. })) => {
                let kind = match reason {
                    TerminateReason::CpuLimit => ErrorKind::CpuLimit,
                    TerminateReason::MemoryLimit => ErrorKind::MemoryLimit,
                    TerminateReason::WallLimit => ErrorKind::Timeout,
                    TerminateReason::Crashed => ErrorKind::Crashed,
                    TerminateReason::PolicyViolation => ErrorKind::PolicyViolation,
                };
                let frame = detail.rsplit_once(", at ").map(|(_, frame)| frame);
                Self {
                    position: frame
                        .and_then(Position::of_frame)
                        .filter(|at| is_source_of_guest(&at.source)),
                    ..Self::new(kind, format!("the guest was ended: {}", limited(&detail)))
                }
            }
            (error, Some(End::Destroyed(_))) => Self::new(ErrorKind::Cancelled, error.to_string()),
            (CallError::Send(error), None) => Self::new(ErrorKind::NotStarted, error.to_string()),
            (error, None) => Self::new(ErrorKind::Crashed, error.to_string()),
        }
    }
}

/// What an isolate was terminated for, with the name that the limit has among the options of a run.
fn limited(detail: &str) -> String {
    let options = [
        ("cpuLimitMs ", "cpu", "ms"),
        ("cpuTotalMs ", "cpu", "ms"),
        ("memoryLimitMb ", "memory", "MB"),
    ];
    let named = options.iter().find_map(|(name, option, unit)| {
        let rest = detail.strip_prefix(name)?;
        let digits = |char: char| char.is_ascii_digit() || char == '.';
        let end = rest.find(|char| !digits(char)).unwrap_or(rest.len());
        let (number, rest) = rest.split_at_checked(end)?;
        Some(format!("{option} {number} {unit}{rest}"))
    });
    named.unwrap_or_else(|| detail.to_owned())
}

impl Serialize for RunError {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Form<'a> {
            kind: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            name: Option<&'a str>,
            message: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            stack: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            source: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            line: Option<u32>,
            #[serde(skip_serializing_if = "Option::is_none")]
            column: Option<u32>,
            #[serde(skip_serializing_if = "Option::is_none")]
            code: Option<&'a str>,
        }
        let position = self.position.as_ref();
        let form = Form {
            kind: self.kind.name(),
            name: self.name.as_deref(),
            message: &self.message,
            stack: self.stack.as_deref(),
            source: position.map(|at| at.source.as_str()),
            line: position.map(|at| at.line),
            column: position.map(|at| at.column),
            code: self.code.as_deref(),
        };
        form.serialize(serializer)
    }
}

/// What a run used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RunUsage {
    /// CPU time of the isolate during the run.
    pub cpu: Duration,
    /// From the call until the result, with the start of the isolate.
    pub elapsed: Duration,
    /// The most bytes that were measured during the isolate's life.
    pub memory: u64,
}

impl Serialize for RunUsage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Form {
            cpu_ms: f64,
            elapsed_ms: f64,
            memory_bytes: u64,
        }
        let ms = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
        let form = Form {
            cpu_ms: ms(self.cpu),
            elapsed_ms: ms(self.elapsed),
            memory_bytes: self.memory,
        };
        form.serialize(serializer)
    }
}

/// What a run gave. As JSON it is the outcome of `docs/run-code.md`, on one line.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The JSON text of the result on one line, `None` for `undefined`; or why there is none.
    pub result: Result<Option<Box<RawValue>>, RunError>,
    /// What the guest printed.
    pub console: Vec<Line>,
    /// Whether something that it printed was left out.
    pub console_truncated: bool,
    /// What it used.
    pub usage: RunUsage,
    /// What it tried to reach and may not.
    pub refused: Vec<RefusedHost>,
    /// Where it ran.
    pub level: Isolation,
    /// The run ended the isolate of its session.
    pub state_lost: bool,
}

impl Outcome {
    /// Reads the result.
    ///
    /// # Errors
    /// Why there is none. A result that is not a `T` is [`ErrorKind::NotJson`].
    pub fn read<T: serde::de::DeserializeOwned>(&self) -> Result<T, RunError> {
        let json = self.result.as_ref().map_err(RunError::clone)?;
        let json = json.as_ref().map_or("null", |json| json.get());
        serde_json::from_str(json).map_err(|error| {
            RunError::new(
                ErrorKind::NotJson,
                format!("the result is not of the expected form: {error}"),
            )
        })
    }
}

impl Serialize for Outcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Form<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            result: Option<Option<&'a RawValue>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            error: Option<&'a RunError>,
            console: &'a [Line],
            console_truncated: bool,
            usage: RunUsage,
            refused: &'a [RefusedHost],
            level: &'static str,
            v8: &'static str,
            #[serde(skip_serializing_if = "std::ops::Not::not")]
            state_lost: bool,
        }
        let form = Form {
            result: self.result.as_ref().ok().map(Option::as_deref),
            error: self.result.as_ref().err(),
            console: &self.console,
            console_truncated: self.console_truncated,
            usage: self.usage,
            refused: &self.refused,
            level: self.level.name(),
            v8: stockade_isolate::V8_VERSION,
            state_lost: self.state_lost,
        };
        form.serialize(serializer)
    }
}

/// Nesting of JSON of a guest, which clients in any language can read.
pub(crate) const MAX_JSON_DEPTH: usize = 100;

/// JSON text of a guest on one line; `None` if it is not JSON, or nests deeper than [`MAX_JSON_DEPTH`]. A hostile worker may write
/// anything: line breaks between tokens would forge lines of a protocol.
pub(crate) fn one_line(json: String) -> Option<Box<RawValue>> {
    let json = match json.contains(['\n', '\r']) {
        // Within strings JSON has no raw line breaks.
        true => Cow::Owned(json.replace(['\n', '\r'], " ")),
        false => Cow::Borrowed(json.as_str()),
    };
    if depth(&json) > MAX_JSON_DEPTH {
        return None;
    }
    RawValue::from_string(json.into_owned()).ok()
}

/// How deep JSON nests.
fn depth(json: &str) -> usize {
    let (mut depth, mut most) = (0usize, 0);
    let (mut in_text, mut escaped) = (false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => {
                depth += 1;
                most = most.max(depth);
            }
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(result: Result<Option<Box<RawValue>>, RunError>) -> Outcome {
        Outcome {
            result,
            console: Vec::new(),
            console_truncated: false,
            usage: RunUsage::default(),
            refused: Vec::new(),
            level: Isolation::Container,
            state_lost: false,
        }
    }

    #[test]
    fn outcome_has_a_result_or_an_error() {
        let text = |outcome: &Outcome| serde_json::to_value(outcome).unwrap();
        let done = text(&outcome(Ok(one_line("{\"a\":1}".to_owned()))));
        assert_eq!(done["result"]["a"], 1);
        assert!(done.get("error").is_none() && done.get("stateLost").is_none());
        let nothing = text(&outcome(Ok(None)));
        assert!(nothing.as_object().unwrap().contains_key("result"));
        let error = RunError::new(ErrorKind::CpuLimit, "x");
        let failed = text(&outcome(Err(error)));
        assert_eq!(failed["error"]["kind"], "cpu_limit_exceeded");
        assert!(failed.get("result").is_none());
    }

    #[test]
    fn one_line_has_no_line_breaks_and_is_json() {
        let json = one_line("{\"a\":\n\"b\\n\",\r\n\"c\": 1}".to_owned()).unwrap();
        assert_eq!(json.get(), "{\"a\": \"b\\n\",  \"c\": 1}");
        assert!(one_line("1\n{\"forged\":true}".to_owned()).is_none());
        assert!(one_line("\"a\nb\"".to_owned()).is_some());
        assert!(one_line(String::new()).is_none());
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(one_line(nested(100)).is_some() && one_line(nested(101)).is_none());
        assert!(one_line(format!("\"\\\"{}\"", "[".repeat(200))).is_some());
    }

    #[test]
    fn guest_error_has_no_place_of_the_runtime() {
        let of = |place: &str| {
            let error = GuestError {
                stack: Some(format!("Error: x\n    at {place}:2:3")),
                ..GuestError::new("x")
            };
            RunError::guest(error).position.map(|at| at.line)
        };
        assert_eq!(of("main.ts"), Some(2));
        assert_eq!(of("ext:stockade_realm/boot.js"), None);
    }

    #[test]
    fn error_of_a_limit_names_the_option_and_the_place() {
        let of = |reason, detail: &str| {
            let end = End::Terminated {
                reason,
                usage: stockade_supervisor::ResourceUsage::default(),
                detail: detail.into(),
            };
            let ended = CallError::Ended {
                id: 0,
                end: String::new(),
            };
            let error = RunError::no_reply(ended, Some(end));
            (error.message, error.position.map(|at| (at.line, at.column)))
        };
        assert_eq!(
            of(
                TerminateReason::CpuLimit,
                "cpuTotalMs 200, at spin (main.ts:3:5)"
            ),
            (
                "the guest was ended: cpu 200 ms, at spin (main.ts:3:5)".to_owned(),
                Some((3, 5))
            )
        );
        assert_eq!(
            of(TerminateReason::MemoryLimit, "memoryLimitMb 64"),
            ("the guest was ended: memory 64 MB".to_owned(), None)
        );
    }

    #[test]
    fn stack_of_a_guest_error_has_what_it_came_of() {
        let error = GuestError {
            stack: Some("Error: out\n    at main.ts:1:7\n    at ext:core/01.js:1:1".to_owned()),
            related: vec![stockade_protocol::Related {
                depth: 1,
                member: false,
                error: GuestError::new("in"),
            }],
            ..GuestError::new("out")
        };
        let stack = RunError::guest(error).stack;
        assert_eq!(
            stack.as_deref(),
            Some("Error: out\n    at main.ts:1:7\nCaused by: Error: in")
        );
    }

    #[test]
    fn guest_error_of_the_runtime_has_its_own_kind() {
        let error = |code: Option<&str>| GuestError {
            code: code.map(str::to_owned),
            ..GuestError::new("x")
        };
        assert_eq!(RunError::guest(error(None)).kind, ErrorKind::Thrown);
        assert_eq!(
            RunError::guest(error(Some("syntax"))).kind,
            ErrorKind::Thrown
        );
        let own = RunError::guest(error(Some("E1")));
        assert_eq!(
            (own.kind, own.code.as_deref()),
            (ErrorKind::Thrown, Some("E1"))
        );
        assert_eq!(
            RunError::guest(error(Some("stockade:syntax"))).kind,
            ErrorKind::Syntax
        );
        assert_eq!(
            RunError::guest(error(Some(NOT_JSON))).kind,
            ErrorKind::NotJson
        );
    }
}
