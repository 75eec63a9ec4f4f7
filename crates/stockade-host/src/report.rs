//! How an uncaught error looks on standard error: as Deno prints it.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::Write as _;

use deno_core::error::{
    CoreError, CoreErrorKind, ErrorElement, ErrorFormat, JsError, JsStackFrame, NoAnsiColors,
    format_frame,
};

/// How deep causes and aggregated errors are shown.
const MAX_CAUSE_DEPTH: usize = 16;

/// Prints an error of the script. `color`: standard error is a terminal that wants colours.
pub(crate) fn print(error: &CoreError, color: bool) {
    let text = match error.as_kind() {
        CoreErrorKind::Js(error) => Report { color }.error(error, true, 0),
        _ => error.to_string(),
    };
    let label = Report { color }.paint("error", "1;31");
    // When standard error is closed, there is nowhere to report that.
    let _ = writeln!(std::io::stderr(), "{label}: {text}");
}

/// Whether an error says that the main module awaits what nobody will settle.
pub(crate) fn is_unsettled_await(error: &CoreError) -> bool {
    match error.as_kind() {
        CoreErrorKind::Js(error) => {
            error.exception_message == "Top-level await promise never resolved"
        }
        CoreErrorKind::ModuleEvaluationDeadlock => true,
        _ => false,
    }
}

struct Report {
    color: bool,
}

struct Colors;

impl ErrorFormat for Colors {
    fn fmt_element(element: ErrorElement, in_extension: bool, text: &str) -> Cow<'_, str> {
        let code = match element {
            _ if in_extension => "90",
            ErrorElement::FileName
            | ErrorElement::Anonymous
            | ErrorElement::NativeFrame
            | ErrorElement::EvalOrigin => "36",
            ErrorElement::LineNumber | ErrorElement::ColumnNumber => "33",
            ErrorElement::FunctionName | ErrorElement::PromiseAll => "1;3",
            ErrorElement::WorkingDirPath => "90",
            ErrorElement::PlainText => return Cow::Borrowed(text),
        };
        Cow::Owned(format!("\u{1b}[{code}m{text}\u{1b}[0m"))
    }
}

/// Frames of the runtime's own scripts say nothing about the user's code.
fn is_internal(frame: &JsStackFrame) -> bool {
    let internal = |file: &String| file.starts_with("ext:");
    frame.file_name.as_ref().is_some_and(internal)
}

impl Report {
    fn paint(&self, text: &str, code: &str) -> String {
        if self.color {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }

    fn error(&self, error: &JsError, with_source: bool, depth: usize) -> String {
        if depth >= MAX_CAUSE_DEPTH {
            return "[more errors]".to_owned();
        }
        let mut out = error.exception_message.clone();
        for inner in error.aggregated.iter().flatten() {
            let text = self.error(inner, false, depth + 1);
            for line in text.trim_start_matches("Uncaught ").lines() {
                let _ = write!(out, "\n    {line}");
            }
        }
        if error.stack_is_custom {
            // The first line of a stack repeats the message.
            let stack = error.stack.as_deref().unwrap_or_default();
            for line in stack.lines().skip(1) {
                let _ = write!(out, "\n{line}");
            }
        } else {
            if with_source {
                out.push_str(&self.source_line(error));
            }
            out.push_str(&self.frames(error));
        }
        if let Some(cause) = &error.cause {
            let text = self.error(cause, false, depth + 1);
            let text = text.trim_start_matches("Uncaught ");
            let _ = write!(out, "\nCaused by: {text}");
        }
        out
    }

    /// The line that threw, and a caret below the place.
    fn source_line(&self, error: &JsError) -> String {
        let line = error.source_line.as_deref().unwrap_or_default();
        let column = error
            .source_line_frame_index
            .and_then(|index| error.frames.get(index))
            .and_then(|frame| frame.column_number)
            .and_then(|column| usize::try_from(column).ok());
        let Some(column) = column.filter(|column| *column > 0 && !line.trim().is_empty()) else {
            return String::new();
        };
        let mut units = 0;
        let mut caret = String::new();
        for c in line.chars() {
            if units + 1 >= column {
                break;
            }
            units += c.len_utf16();
            caret.push(if c == '\t' { '\t' } else { ' ' });
        }
        caret.push('^');
        format!("\n{line}\n{}", self.paint(&caret, "31"))
    }

    fn frames(&self, error: &JsError) -> String {
        let mut out = String::new();
        for frame in error.frames.iter().filter(|frame| !is_internal(frame)) {
            let frame = if self.color {
                format_frame::<Colors>(frame, None)
            } else {
                format_frame::<NoAnsiColors>(frame, None)
            };
            let _ = write!(out, "\n    at {frame}");
        }
        out
    }
}
