//! What tests did, for people, as TAP or as JSON.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::json;
use stockade_project::is_of_test_library;
use stockade_protocol::{harmless, harmless_line};
use stockade_transpile::{Language, excerpt};

use super::super::style::Style;
use super::super::{exit, output};

/// Bytes of a message, a stack or a diff, and of a name.
const MAX_TEXT_BYTES: usize = 16 << 10;
const MAX_NAME_BYTES: usize = 512;

/// Frames of a stack.
const MAX_FRAMES: usize = 10;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Lines with colours, where the output has them.
    People,
    /// The Test Anything Protocol, version 14.
    Tap,
    /// One document at the end.
    Json,
}

/// How a test ended.
#[derive(Debug)]
pub(super) enum Outcome {
    Passed,
    Failed(Box<TestError>),
    Skipped,
    Todo,
}

/// Why a test failed. It comes from the isolate.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct TestError {
    message: String,
    stack: String,
    diff: Option<String>,
    /// The line at which it was thrown, with a caret.
    #[serde(skip_deserializing)]
    excerpt: Option<String>,
}

impl TestError {
    /// The isolate ended in the test.
    pub(super) fn of_end(why: &str) -> Self {
        Self {
            message: why.to_owned(),
            ..Self::default()
        }
    }

    /// With a stack of places in the developer's files alone, and the line of the first one.
    pub(super) fn with_source(mut self, root: &Path) -> Self {
        let frames = self
            .stack
            .lines()
            .filter(|line| line.trim_start().starts_with("at "));
        let mut kept = Vec::new();
        let mut first = None;
        for line in frames {
            let Some((name, place, column)) = place(line) else {
                continue;
            };
            if is_of_test_library(name) {
                continue;
            }
            if first.is_none() {
                let text = source_of(root, name);
                first = text.and_then(|text| excerpt(&text, place, column));
            }
            kept.push(line.trim().replace("guest:///", ""));
            if kept.len() == MAX_FRAMES {
                break;
            }
        }
        self.stack = harmless(&kept.join("\n"), MAX_TEXT_BYTES);
        self.message = harmless(&self.message, MAX_TEXT_BYTES);
        self.diff = self.diff.map(|diff| harmless(&diff, MAX_TEXT_BYTES));
        self.excerpt = first.map(|lines| harmless(&lines, MAX_TEXT_BYTES));
        self
    }
}

/// The place of a frame: a module's name, line and column.
fn place(frame: &str) -> Option<(&str, u32, u32)> {
    let (_, rest) = frame.split_once("guest:///")?;
    let rest = rest.trim_end_matches(')');
    let (rest, column) = rest.rsplit_once(':')?;
    let (name, line) = rest.rsplit_once(':')?;
    Some((name, line.parse().ok()?, column.parse().ok()?))
}

/// The text of code of the project, to show a line of it. The guest names it: other files may have secrets.
fn source_of(root: &Path, name: &str) -> Option<String> {
    const MOST: u64 = 4 << 20;
    let path = root.join(name).canonicalize().ok()?;
    Language::from_path(&path)?;
    let data = path.metadata().ok()?;
    let is_inside = path.starts_with(root) && data.is_file() && data.len() <= MOST;
    is_inside.then(|| std::fs::read_to_string(path).ok())?
}

#[derive(Serialize)]
struct FileReport {
    file: String,
    tests: Vec<TestReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Serialize)]
struct TestReport {
    name: String,
    outcome: &'static str,
    ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Box<TestError>>,
}

/// Takes what tests did, and prints it.
pub(super) struct Reporter {
    form: Form,
    style: Style,
    began: Instant,
    files: Vec<FileReport>,
    number: usize,
    passed: usize,
    failed: usize,
    skipped: usize,
    left_out: usize,
    failed_files: usize,
}

impl Reporter {
    pub(super) fn new(form: Form) -> Self {
        if form == Form::Tap {
            output::say("TAP version 14");
        }
        Self {
            form,
            style: Style::of(&std::io::stdout()),
            began: Instant::now(),
            files: Vec::new(),
            number: 0,
            passed: 0,
            failed: 0,
            skipped: 0,
            left_out: 0,
            failed_files: 0,
        }
    }

    /// A file begins.
    pub(super) fn begin(&mut self, file: &str) {
        let file = harmless_line(file, MAX_NAME_BYTES);
        match self.form {
            Form::People => output::say(&self.style.name(&file)),
            Form::Tap => output::say(&format!("# {file}")),
            Form::Json => {}
        }
        self.files.push(FileReport {
            file,
            tests: Vec::new(),
            error: None,
        });
    }

    /// Tests that the filter left out.
    pub(super) fn filtered(&mut self, tests: usize) {
        self.left_out += tests;
    }

    /// The file, or the rest of it, did not run.
    pub(super) fn file_failed(&mut self, why: &str) {
        self.failed_files += 1;
        let why = harmless(why, MAX_TEXT_BYTES);
        match self.form {
            Form::People => {
                let text = indented(&why, "       ");
                output::say(&format!(
                    "  {} {}",
                    self.style.bad("FAIL"),
                    text.trim_start()
                ));
            }
            Form::Tap => {
                self.number += 1;
                let file = self.files.last().map_or("", |file| &file.file);
                let number = self.number;
                output::say(&format!("not ok {number} - {}", tap_name(file)));
                output::say(&format!("  ---\n  message: {}\n  ...", json!(why)));
            }
            Form::Json => {}
        }
        if let Some(file) = self.files.last_mut() {
            file.error = Some(why);
        }
    }

    /// A test ended.
    pub(super) fn test(&mut self, name: &str, outcome: Outcome, took: Duration) {
        let name = harmless_line(name, MAX_NAME_BYTES);
        let ms = (took.as_secs_f64() * 1e4).round() / 10.0;
        let (word, error) = match outcome {
            Outcome::Passed => ("passed", None),
            Outcome::Failed(error) => ("failed", Some(error)),
            Outcome::Skipped => ("skipped", None),
            Outcome::Todo => ("todo", None),
        };
        match word {
            "passed" => self.passed += 1,
            "failed" => self.failed += 1,
            _ => self.skipped += 1,
        }
        self.number += 1;
        match self.form {
            Form::People => self.for_people(&name, word, ms, error.as_deref()),
            Form::Tap => self.as_tap(&name, word, ms, error.as_deref()),
            Form::Json => {}
        }
        if let Some(file) = self.files.last_mut() {
            file.tests.push(TestReport {
                name,
                outcome: word,
                ms,
                error,
            });
        }
    }

    fn for_people(&self, name: &str, word: &str, ms: f64, error: Option<&TestError>) {
        let style = self.style;
        let mut out = match word {
            "passed" => format!("  {} {name} ({ms} ms)", style.good("ok  ")),
            "failed" => format!("  {} {name} ({ms} ms)", style.bad("FAIL")),
            word => format!("  {} {name}", style.label(&format!("{word:4}"))),
        };
        if let Some(error) = error {
            let _ = write!(out, "\n{}", indented(&error.message, "       "));
            for line in error.diff.iter().flat_map(|diff| diff.lines()) {
                let line = match line.trim_start().chars().next() {
                    Some('-') => style.good(line),
                    Some('+') => style.bad(line),
                    _ => line.to_owned(),
                };
                let _ = write!(out, "\n         {line}");
            }
            for lines in error.excerpt.iter().chain([&error.stack]) {
                if !lines.is_empty() {
                    let _ = write!(out, "\n\n{}", indented(lines, "         "));
                }
            }
            out.push('\n');
        }
        output::say(&out);
    }

    fn as_tap(&self, name: &str, word: &str, ms: f64, error: Option<&TestError>) {
        let file = self.files.last().map_or("", |file| &file.file);
        let ok = if word == "failed" { "not ok" } else { "ok" };
        let directive = match word {
            "skipped" => " # SKIP",
            "todo" => " # TODO",
            _ => "",
        };
        let name = tap_name(&format!("{file} > {name}"));
        let mut out = format!(
            "{ok} {} - {name}{directive}\n  ---\n  duration_ms: {ms}",
            self.number
        );
        if let Some(error) = error {
            let _ = write!(
                out,
                "\n  message: {}\n  stack: {}",
                json!(error.message),
                json!(error.stack)
            );
            if let Some(diff) = &error.diff {
                let _ = write!(out, "\n  diff: {}", json!(diff));
            }
        }
        out.push_str("\n  ...");
        output::say(&out);
    }

    /// Prints what is left, and gives the exit code.
    pub(super) fn finish(&self) -> i32 {
        let is_good = self.failed == 0 && self.failed_files == 0;
        let has_run = self.passed + self.failed + self.skipped > 0;
        match self.form {
            Form::People => {
                let mut parts = vec![format!("{} passed", self.passed)];
                let more = [
                    (self.failed, "failed"),
                    (self.skipped, "skipped"),
                    (self.left_out, "left out by the filter"),
                    (self.failed_files, "failed to run to the end of the file"),
                ];
                parts.extend(
                    more.iter()
                        .filter(|(n, _)| *n > 0)
                        .map(|(n, what)| format!("{n} {what}")),
                );
                let took = self.began.elapsed().as_millis();
                let line = match is_good && !has_run && self.left_out == 0 {
                    true => "there is no test in these files".to_owned(),
                    false => format!("{} in {took} ms", parts.join(", ")),
                };
                let line = if is_good {
                    self.style.good(&line)
                } else {
                    self.style.bad(&line)
                };
                output::say(&format!("\n{line}"));
            }
            Form::Tap => output::say(&format!("1..{}", self.number)),
            Form::Json => {
                let document = json!({
                    "ok": is_good && has_run,
                    "passed": self.passed,
                    "failed": self.failed,
                    "skipped": self.skipped,
                    "leftOut": self.left_out,
                    "elapsedMs": self.began.elapsed().as_millis() as u64,
                    "files": self.files,
                });
                output::say(&document.to_string());
            }
        }
        match (is_good, has_run) {
            (false, _) => exit::FAILED,
            (true, false) => exit::USAGE,
            (true, true) => exit::DONE,
        }
    }
}

/// A name as TAP has it: `#` and `\` begin something else.
fn tap_name(name: &str) -> String {
    name.replace('\\', "\\\\").replace('#', "\\#")
}

fn indented(text: &str, indent: &str) -> String {
    let lines = text.lines().map(|line| format!("{indent}{line}"));
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_has_places_of_the_developers_files_alone() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::write(root.join("a.test.ts"), "one\n  expect(1).toBe(2);\n").unwrap();
        let error = TestError {
            message: "AssertionError: \u{1b}[2J".to_owned(),
            stack: "AssertionError: x\n    at toBe (guest:///stockade-expect.js:1:2)\n    at f (guest:///a.test.ts:2:13)\n    at run \
                    (guest:///stockade.mjs:1:1)\n    at x (guest:///../../etc/passwd:1:1)"
                .to_owned(),
            ..TestError::default()
        };
        let error = error.with_source(&root);
        assert_eq!(
            error.stack,
            "at f (a.test.ts:2:13)\nat x (../../etc/passwd:1:1)"
        );
        assert_eq!(
            error.excerpt.as_deref(),
            Some("  expect(1).toBe(2);\n            ^")
        );
        assert!(!error.message.contains('\u{1b}'));
        std::fs::write(root.join(".env"), "TOKEN=secret\n").unwrap();
        for name in ["../../../../../../etc/passwd", ".env"] {
            let other = TestError {
                stack: format!("at x (guest:///{name}:1:1)"),
                ..TestError::default()
            };
            assert_eq!(other.with_source(&root).excerpt, None, "{name}");
        }
    }

    #[test]
    fn tap_name_has_no_directive_of_the_guest() {
        assert_eq!(tap_name("a # SKIP \\"), "a \\# SKIP \\\\");
    }
}
