//! What the two sides say to each other.

use crate::payload::Payload;

/// Names a call of the host that waits for the isolate's reply.
pub type CallId = u64;

/// Names a request of the guest that waits for the host's answer.
pub type RequestId = u64;

/// Host to isolate.
#[derive(Debug)]
pub enum ToIsolate {
    /// Runs a script; errors come back as [`FromIsolate::Uncaught`].
    Execute {
        /// JavaScript or TypeScript.
        code: String,
    },
    /// Runs a script and replies with its last value.
    Evaluate {
        /// For the reply.
        id: CallId,
        /// JavaScript or TypeScript.
        code: String,
    },
    /// Replies once the main module has run, or with why it did not.
    Ready {
        /// For the reply.
        id: CallId,
    },
    /// Calls a function the guest exported.
    Call {
        /// For the reply.
        id: CallId,
        /// The function's name.
        name: String,
        /// A JSON array of arguments.
        args: Payload,
    },
    /// An event for `NETWORK.on`.
    Event {
        /// The event's name.
        name: String,
        /// Its data.
        data: Payload,
    },
    /// The host's answer to a [`FromIsolate::Request`].
    Answer {
        /// The number of the request.
        id: RequestId,
        /// The value, or the message the guest's promise rejects with.
        result: Result<Payload, GuestError>,
    },
    /// Between the two runtimes (streams, sockets); never shown to a guest's handlers.
    Control {
        /// What it is about.
        name: String,
        /// Its data.
        data: Payload,
    },
}

/// Isolate to host. Hostile: see the crate's invariants.
#[derive(Debug)]
pub enum FromIsolate {
    /// `NETWORK.send`.
    Event {
        /// The event's name.
        name: String,
        /// Its data.
        data: Payload,
    },
    /// `NETWORK.request`, and what is built on it.
    Request {
        /// For the answer.
        id: RequestId,
        /// The method's name.
        method: String,
        /// Its data.
        data: Payload,
    },
    /// The reply to [`ToIsolate::Evaluate`], [`ToIsolate::Ready`] or [`ToIsolate::Call`].
    Reply {
        /// The number of the call.
        id: CallId,
        /// The value, or what the guest threw.
        result: Result<Payload, GuestError>,
    },
    /// A line of the guest's `console`.
    Console {
        /// How serious.
        level: ConsoleLevel,
        /// Formatted text without control characters, at most
        /// [`MAX_CONSOLE_BYTES`](crate::bounds::MAX_CONSOLE_BYTES). With `ConsoleMode::Whole` a piece of it,
        /// which ends with a newline where it is the last.
        text: String,
    },
    /// An exception or rejection that nothing caught.
    Uncaught(GuestError),
    /// Between the two runtimes; a guest cannot send it.
    Control {
        /// What it is about.
        name: String,
        /// Its data.
        data: Payload,
    },
}

impl ToIsolate {
    /// What the message costs against the queue's bounds, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        let data = match self {
            Self::Execute { code } | Self::Evaluate { code, .. } => code.len(),
            Self::Ready { .. } => 0,
            Self::Call {
                name, args: data, ..
            }
            | Self::Event { name, data }
            | Self::Control { name, data } => name.len().saturating_add(data.size()),
            Self::Answer {
                result: Ok(data), ..
            } => data.size(),
            Self::Answer {
                result: Err(error), ..
            } => error.size(),
        };
        data.saturating_add(crate::bounds::MESSAGE_OVERHEAD)
    }
}

impl ToIsolate {
    /// How many binary parts it has.
    #[must_use]
    pub fn parts(&self) -> usize {
        match self {
            Self::Call { args: data, .. }
            | Self::Event { data, .. }
            | Self::Control { data, .. }
            | Self::Answer {
                result: Ok(data), ..
            } => data.bytes.len(),
            Self::Execute { .. }
            | Self::Evaluate { .. }
            | Self::Ready { .. }
            | Self::Answer { .. } => 0,
        }
    }
}

impl FromIsolate {
    /// What the message costs against the queue's bounds, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        let data = match self {
            Self::Event { name, data }
            | Self::Control { name, data }
            | Self::Request {
                method: name, data, ..
            } => name.len().saturating_add(data.size()),
            Self::Reply {
                result: Ok(data), ..
            } => data.size(),
            Self::Reply {
                result: Err(error), ..
            }
            | Self::Uncaught(error) => error.size(),
            Self::Console { text, .. } => text.len(),
        };
        data.saturating_add(crate::bounds::MESSAGE_OVERHEAD)
    }
}

/// An error that crosses the wall: texts only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GuestError {
    /// Such as `TypeError`.
    pub name: String,
    /// The message alone.
    pub message: String,
    /// By what programs distinguish errors of one name, such as an SQLSTATE: the error's `code`.
    pub code: Option<String>,
    /// The stack as the thrower saw it, positions mapped back to the original source.
    pub stack: Option<String>,
    /// Where it was thrown.
    pub position: Option<Position>,
    /// What it came of, outermost first: its `cause`, what an `AggregateError` holds, and theirs. At most
    /// [`MAX_RELATED_ERRORS`](crate::bounds::MAX_RELATED_ERRORS).
    pub related: Vec<Related>,
}

/// An error that another one came of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Related {
    /// How far it is from the error that was thrown, from 1: it belongs to the last one before it in the list
    /// that is one nearer.
    pub depth: u8,
    /// It is one of several that an `AggregateError` holds, and no `cause`.
    pub member: bool,
    /// Its texts; nothing is related to it, it has its own place in the list.
    pub error: GuestError,
}

impl GuestError {
    /// An error of class `Error` with only a message.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            name: "Error".to_owned(),
            message: message.into(),
            code: None,
            stack: None,
            position: None,
            related: Vec::new(),
        }
    }

    /// The error's code, or nothing.
    #[must_use]
    pub fn code(&self) -> &str {
        self.code.as_deref().unwrap_or_default()
    }

    /// Bytes of its texts and of what it came of.
    #[must_use]
    pub fn size(&self) -> usize {
        let own = self.name.len() + self.message.len() + self.stack.as_ref().map_or(0, String::len);
        let code = self.code.as_ref().map_or(0, String::len);
        let source = self.position.as_ref().map_or(0, |at| at.source.len());
        let related = self
            .related
            .iter()
            .map(|related| size_of::<Related>().saturating_add(related.error.size()));
        related.fold(
            own.saturating_add(code).saturating_add(source),
            usize::saturating_add,
        )
    }

    /// Everything that a person needs to find the fault: name, message and stack, without the frames of the
    /// runtime's own scripts, and the same of what it came of.
    #[must_use]
    pub fn trace(&self) -> String {
        let mut out = self.own_trace();
        for Related {
            depth,
            member,
            error,
        } in &self.related
        {
            let levels = usize::from(*depth) - usize::from(!member && *depth > 0);
            let indent = " ".repeat(4 * levels);
            let label = if *member { "" } else { "Caused by: " };
            let text = error.own_trace();
            for (index, line) in text.lines().enumerate() {
                out.push('\n');
                out.push_str(&indent);
                out.push_str(if index == 0 { label } else { "" });
                out.push_str(line);
            }
        }
        out
    }

    /// Where it was thrown, and otherwise where the first frame of its stack is in the guest's own code: an error that the runtime
    /// made has no other place.
    #[must_use]
    pub fn place(&self) -> Option<Position> {
        self.position.clone().or_else(|| {
            let frames = self.stack.as_deref()?.lines().skip(1);
            (frames.filter_map(|line| Position::of_frame(line.strip_prefix("    at ")?)))
                .find(|at| is_source_of_guest(&at.source))
        })
    }

    fn own_trace(&self) -> String {
        let headline = match self.message.as_str() {
            // The engine wraps what it cannot compile.
            message if message.starts_with("SyntaxError: ") => message.to_owned(),
            _ => self.to_string(),
        };
        let stack = self.stack.as_deref().unwrap_or_default();
        let frames = match stack.strip_prefix(headline.as_str()) {
            Some(frames) => frames.trim_start_matches('\n'),
            // The name or the message was changed after the stack was taken.
            None => stack
                .find("\n    at ")
                .map_or("", |start| &stack[start + 1..]),
        };
        let mut out = headline;
        let own = |line: &&str| {
            line.starts_with("    at ") && (line.contains("ext:") || line.contains("internal:"))
        };
        for line in frames.lines().filter(|line| !own(line)) {
            out.push('\n');
            out.push_str(line);
        }
        out
    }
}

/// Whether a source that a stack names is the guest's, and no script or module of the runtime.
#[must_use]
pub fn is_source_of_guest(name: &str) -> bool {
    !["ext:", "internal:", "node:"]
        .iter()
        .any(|scheme| name.starts_with(scheme))
}

impl std::fmt::Display for GuestError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.name.as_str(), self.message.as_str()) {
            ("", message) => f.write_str(message),
            (name, "") => f.write_str(name),
            (name, message) => write!(f, "{name}: {message}"),
        }
    }
}

impl std::error::Error for GuestError {}

/// A place in a source text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The script's or module's name.
    pub source: String,
    /// From 1.
    pub line: u32,
    /// From 1, in UTF-16 code units.
    pub column: u32,
}

impl Position {
    /// The place that a frame of a stack names, such as `async f (main.ts:3:4)`.
    #[must_use]
    pub fn of_frame(frame: &str) -> Option<Self> {
        let place = frame.rsplit_once('(').map_or(frame, |(_, place)| place);
        let place = place.trim_start_matches("async ").trim_end_matches(')');
        let mut parts = place.rsplitn(3, ':');
        let column = parts.next()?.parse().ok()?;
        let line = parts.next()?.parse().ok()?;
        let source = parts.next()?.to_owned();
        Some(Self {
            source,
            line,
            column,
        })
    }
}

/// How serious a console line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsoleLevel {
    /// `console.debug`.
    Debug,
    /// `console.log`, `console.info` and everything that has no level of its own.
    Info,
    /// `console.warn`.
    Warn,
    /// `console.error`, `console.assert`, `console.trace`.
    Error,
}

impl ConsoleLevel {
    /// The level with Deno's number: 0 debug, 1 info, 2 warn, 3 and above error.
    #[must_use]
    pub fn from_number(level: u32) -> Self {
        match level {
            0 => Self::Debug,
            1 => Self::Info,
            2 => Self::Warn,
            _ => Self::Error,
        }
    }

    /// The name users see.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thrown(name: &str, message: &str, frames: &str) -> GuestError {
        GuestError {
            name: name.to_owned(),
            stack: Some(format!("{name}: {message}\n{frames}")),
            ..GuestError::new(message)
        }
    }

    fn related(depth: u8, member: bool, error: GuestError) -> Related {
        Related {
            depth,
            member,
            error,
        }
    }

    #[test]
    fn trace_shows_causes_and_members_below_what_came_of_them() {
        let error = GuestError {
            related: vec![
                related(1, true, thrown("Error", "one", "    at one:1:1")),
                related(2, false, GuestError::new("deep")),
                related(1, false, thrown("TypeError", "why", "    at why:2:2")),
            ],
            ..thrown(
                "AggregateError",
                "all",
                "    at async ext:core/01.js:1:1\n    at all:3:3",
            )
        };
        let expected = "\
AggregateError: all
    at all:3:3
    Error: one
        at one:1:1
    Caused by: Error: deep
Caused by: TypeError: why
    at why:2:2";
        assert_eq!(error.trace(), expected);
        assert!(error.size() > "allonedeepwhy".len());
    }

    #[test]
    fn place_of_an_error_is_in_the_code_of_the_guest() {
        let place = |frames: &str| thrown("Error", "x", frames).place();
        let at = |source: &str, line, column| {
            let source = source.to_owned();
            Some(Position {
                source,
                line,
                column,
            })
        };
        assert_eq!(place("    at main.ts:1:29"), at("main.ts", 1, 29));
        assert_eq!(
            place("    at async f (main.ts:3:4)\n    at main.ts:1:1"),
            at("main.ts", 3, 4)
        );
        assert_eq!(
            place(
                "    at fsError (internal:files:39:17)\n    at Object.readFileSync (node:fs:148:9)\n    at guest:///a.ts:2:4"
            ),
            at("guest:///a.ts", 2, 4)
        );
        assert_eq!(place("    at ext:stockade_realm/boot.js:2:3"), None);
        assert_eq!(place(""), None);
        assert_eq!(place("    at a:b"), None);
        let known = GuestError {
            position: at("main.ts", 7, 8),
            ..thrown("Error", "x", "    at main.ts:1:1")
        };
        assert_eq!(known.place(), at("main.ts", 7, 8));
    }

    #[test]
    fn trace_of_an_error_that_was_renamed_keeps_its_frames() {
        let error = GuestError {
            name: "Refused".to_owned(),
            ..thrown("Error", "no", "    at a:1:1")
        };
        assert_eq!(error.trace(), "Refused: no\n    at a:1:1");
        assert_eq!(GuestError::new("alone").trace(), "Error: alone");
    }
}
