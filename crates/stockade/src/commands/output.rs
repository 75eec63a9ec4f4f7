//! What guests say, on the user's terminal.

use std::io::{IsTerminal as _, Write as _};

use serde::Serialize as _;
use serde_json::Value;
use stockade::bounds::MAX_ERROR_BYTES;
use stockade::{ConsoleLevel, End, Event, GuestError, Handle, TerminateReason};
use stockade_protocol::harmless;

/// Where the lines of a guest's console go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Console {
    /// Warnings and errors to standard error, the rest to standard output. The guest is a program: an
    /// error that nothing caught is its end.
    Both,
    /// All of it to standard error: standard output is the command's own.
    Error,
}

/// Why a guest of these commands gets no WebSocket.
const NO_SOCKETS: &str = "there is no network here: `stockade run` and `stockade serve` open WebSockets for guests that may";

/// Prints what an event tells the user, and rejects requests and WebSockets: no host is there to answer.
pub(crate) fn hear(event: Event, handle: &Handle, console: Console) {
    if stockade::refuse_socket(handle, &event, NO_SOCKETS) {
        return;
    }
    match event {
        Event::Console { level, text } => line(&text, level, console),
        Event::Uncaught(error) => complain(&format!("uncaught {}", describe(&error))),
        Event::Request { id, method, .. } => stockade::reject(handle, id, &method),
        // The command itself tells why the guest ended.
        Event::Terminated { .. }
        | Event::Message { .. }
        | Event::Control { .. }
        | Event::Destroyed(_) => {}
    }
}

fn line(text: &str, level: ConsoleLevel, console: Console) {
    let error = matches!(level, ConsoleLevel::Warn | ConsoleLevel::Error);
    let text = format!("{text}\n");
    // Nobody is left to tell when the output is closed.
    let _ = if error || console == Console::Error {
        std::io::stderr().write_all(text.as_bytes())
    } else {
        put(&text)
    };
}

fn put(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// A line of the command's own on standard output.
pub(crate) fn say(text: &str) {
    // Nobody is left to tell when the output is closed.
    let _ = put(&format!("{text}\n"));
}

/// A line of the command's own on standard error, which says itself what it is.
#[expect(
    clippy::print_stderr,
    reason = "this is where the program speaks to its user"
)]
pub(crate) fn tell(text: &str) {
    eprintln!("{text}");
}

#[expect(
    clippy::print_stderr,
    reason = "this is where the program speaks to its user"
)]
pub(crate) fn complain(message: &str) {
    eprintln!("error: {message}");
}

/// Name, message and stack, without the runtime's own frames, and the same of what the error came of.
pub(crate) fn describe(error: &GuestError) -> String {
    harmless(&error.trace(), MAX_ERROR_BYTES)
}

/// Why a guest was ended: the limit and where in its code that was, what it had used, and what to do.
pub(crate) fn ended(end: Option<&End>) -> String {
    let Some(end) = end else {
        return "the guest was ended".to_owned();
    };
    let mut text = format!("the guest was ended: {end}");
    let End::Terminated {
        reason, figures, ..
    } = end
    else {
        return text;
    };
    let ms = |time: std::time::Duration| format!("{} ms", time.as_millis());
    let (used, flag) = match reason {
        TerminateReason::CpuLimit => (
            format!("{} of CPU time in this activation", ms(figures.cpu)),
            "--cpu-limit <MS>",
        ),
        TerminateReason::WallLimit => (
            format!("{} in this activation", ms(figures.wall)),
            "--wall-limit <MS>",
        ),
        TerminateReason::MemoryLimit => (
            format!("{} MB when last measured", figures.memory >> 20),
            "--memory-limit <MB>",
        ),
        TerminateReason::Crashed | TerminateReason::PolicyViolation => return text,
    };
    text.push_str(&format!(
        "\n  used: {used}\n  fix: raise it with {flag}, 0 for no limit, or have the guest do or keep less at a time"
    ));
    text
}

/// Prints a value: indented on a terminal, on one line elsewhere.
pub(crate) fn value(json: &str) {
    let parsed = std::io::stdout().is_terminal().then(|| pretty(json));
    let text = parsed.flatten().unwrap_or_else(|| json.to_owned());
    say(&escape(&text));
}

fn pretty(json: &str) -> Option<String> {
    let value: Value = serde_json::from_str(json).ok()?;
    let mut out = Vec::new();
    let mut writer = serde_json::Serializer::pretty(&mut out);
    value.serialize(&mut writer).ok()?;
    String::from_utf8(out).ok()
}

/// Escapes what steers a terminal and may stand as it is in JSON: only within strings it does.
fn escape(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for char in json.chars() {
        let steers = char != '\n' && harmless(char.encode_utf8(&mut [0; 4]), 8) != char.to_string();
        if steers {
            text.push_str(&format!("\\u{:04x}", u32::from(char)));
        } else {
            text.push(char);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_leaves_no_control_characters() {
        assert_eq!(escape("\"a\u{9b}31m\u{7f}é\""), "\"a\\u009b31m\\u007fé\"");
    }
}
