//! What guests say and what commands say, on the user's terminal.

use std::io::{IsTerminal as _, Write as _};

use serde::Serialize as _;
use serde_json::Value;
use stockade::{ConsoleLevel, GuestError};
use stockade_protocol::harmless;

use super::document::Kept;
use super::failure::{Failure, describe};
use super::printer::{Printer, Stream};
use super::style::Style;

/// Where a guest's console goes.
pub(crate) enum Output {
    /// As it is: warnings and errors to standard error, the rest to standard output.
    Program(Printer),
    /// All of it as it is to standard error: standard output is the command's own.
    Apart(Printer),
    /// To standard error, each line with this in front: what the command itself says there cannot be forged.
    Named(String),
    /// Into a document.
    Kept(Box<Kept>),
    Nowhere,
}

impl Output {
    /// A line of the guest, or a piece of one.
    pub(crate) async fn console(
        &mut self,
        level: ConsoleLevel,
        text: String,
    ) -> Result<(), Failure> {
        match self {
            Self::Program(printer) => {
                let stream = match level {
                    ConsoleLevel::Warn | ConsoleLevel::Error => Stream::Error,
                    ConsoleLevel::Debug | ConsoleLevel::Info => Stream::Out,
                };
                printer.put(stream, text).await
            }
            Self::Apart(printer) => printer.put(Stream::Error, text).await,
            Self::Named(name) => {
                let style = Style::of(&std::io::stderr());
                let text = prefixed(&style.name(&format!("[{name}]")), &text);
                // A closed output needs no words.
                let _ = std::io::stderr().write_all(text.as_bytes());
                Ok(())
            }
            Self::Kept(kept) => {
                kept.console(level, &text);
                Ok(())
            }
            Self::Nowhere => Ok(()),
        }
    }

    /// An error that nothing caught, where that is not the guest's end.
    pub(crate) async fn uncaught(&mut self, error: &GuestError) -> Result<(), Failure> {
        let text = format!("uncaught {}", describe(error));
        match self {
            Self::Program(printer) | Self::Apart(printer) => {
                let style = Style::of(&std::io::stderr());
                let text = format!("{}: {text}\n", style.bad("error"));
                printer.put(Stream::Error, text).await
            }
            Self::Named(_) => self.console(ConsoleLevel::Error, text).await,
            Self::Kept(kept) => {
                kept.uncaught(error);
                Ok(())
            }
            Self::Nowhere => Ok(()),
        }
    }

    /// Waits until everything is written.
    pub(crate) async fn finish(self) -> Result<Self, Failure> {
        match self {
            Self::Program(printer) | Self::Apart(printer) => {
                printer.finish().await?;
                Ok(Self::Nowhere)
            }
            other => Ok(other),
        }
    }
}

/// Each line of the text behind `name`.
fn prefixed(name: &str, text: &str) -> String {
    let lines = text.split('\n').map(|line| format!("{name} {line}\n"));
    lines.collect()
}

fn put(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// A line of the command's own on standard output.
pub(crate) fn say(text: &str) {
    // When the output is closed, there is nowhere to report that.
    let _ = put(&format!("{text}\n"));
}

/// What the command was run for, on standard output.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    put(&format!("{text}\n")).map_err(|error| Failure::output(Some(&error)))
}

/// Lines of the command's own on standard error, which say themselves what they are.
pub(crate) fn print_diagnostics(text: &str) {
    let text = harmless(text, usize::MAX);
    note(&Style::of(&std::io::stderr()).diagnostics(&text));
}

/// Says what is wrong. Names of files and texts of other programs in it do not steer the terminal.
pub(crate) fn complain(message: &str) {
    let message = harmless(message, usize::MAX);
    let style = Style::of(&std::io::stderr());
    note(&format!(
        "{}: {}",
        style.bad("error"),
        style.message(&message)
    ));
}

/// A line as it is, on standard error. Where nobody reads it, the exit code says what there is to say.
pub(crate) fn note(text: &str) {
    let _ = std::io::stderr().write_all(format!("{text}\n").as_bytes());
}

/// Prints a value: indented on a terminal, on one line elsewhere.
pub(crate) fn value(json: &str) -> Result<(), Failure> {
    let parsed = std::io::stdout().is_terminal().then(|| pretty(json));
    let text = parsed.flatten().unwrap_or_else(|| json.to_owned());
    print(&escape(&text))
}

/// Prints a value as a program prints it: text as it is, with what steers a terminal escaped, and anything else as
/// [`value`].
pub(crate) fn plain(json: &str) -> Result<(), Failure> {
    match serde_json::from_str::<String>(json) {
        Ok(text) => print(&harmless(&text, usize::MAX)),
        Err(_) => value(json),
    }
}

/// Rows of cells as lines, each column as wide as its widest cell. Cells have no line breaks.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..rows.first().map_or(0, Vec::len)).map(width).collect();
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(&widths);
        let cells = cells.map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
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

    #[test]
    fn prefixed_text_has_the_name_before_every_line() {
        assert_eq!(
            prefixed("[a.ts]", "one\n[WARN x] forged\n"),
            "[a.ts] one\n[a.ts] [WARN x] forged\n[a.ts] \n"
        );
    }
}
