//! Diagnostics: what is wrong with a file, where, what is allowed there, and the nearest right word.

use std::fmt;

use serde::Serialize;

/// The most diagnostics that are reported; a file with more of them has one cause.
const MOST_REPORTED: usize = 100;

/// The most characters of a line that are shown.
const MOST_SHOWN: usize = 160;

/// Whether the file can be used all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It can't.
    Error,
    /// It can, but this is hardly meant.
    Warning,
}

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// Whether the file can be used all the same.
    pub severity: Severity,
    /// The file, as it was named.
    pub file: String,
    /// From 1; 0 where the file as a whole is meant.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// Characters of the offending text, at least 1; it ends with its line.
    pub length: usize,
    /// The keys that lead there: `instances.web.limits.memory`.
    pub path: String,
    /// The line; without control characters, cut where it is long.
    pub excerpt: String,
    /// Where the offending text begins in the excerpt, in characters, from 0.
    pub excerpt_column: usize,
    /// What is wrong, with the offending value.
    pub what: String,
    /// What is allowed, or how to put it right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed: Option<String>,
    /// The nearest right key or word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest: Option<String>,
}

impl fmt::Display for Diagnostic {
    /// A headline, the line with a caret, what is allowed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            write!(f, "{}: ", self.file)?;
        } else {
            write!(f, "{}:{}:{}: ", self.file, self.line, self.column)?;
        }
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.what)?;
        if let Some(nearest) = &self.nearest {
            write!(f, "; did you mean {nearest}?")?;
        }
        if self.line > 0 {
            let gutter = self.line.to_string().len();
            let shown = self.excerpt.chars().count();
            let room = shown.saturating_sub(self.excerpt_column).max(1);
            write!(
                f,
                "\n  {} | {}\n  {:gutter$} | {:column$}{}",
                self.line,
                self.excerpt,
                "",
                "",
                "^".repeat(self.length.clamp(1, room)),
                column = self.excerpt_column,
            )?;
        }
        if let Some(allowed) = &self.allowed {
            write!(f, "\n  allowed: {allowed}")?;
        }
        Ok(())
    }
}

/// Everything that is wrong with a file, in its order. Never empty; warnings are among it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostics {
    /// At least one is an error.
    pub list: Vec<Diagnostic>,
    /// How many more there are.
    pub more: usize,
}

impl Diagnostics {
    /// In the order of the file, each once; all but the first hundred are only counted.
    pub(crate) fn new(mut diagnostics: Vec<Diagnostic>, dropped: usize) -> Self {
        sort(&mut diagnostics);
        // An error must stay, else the list would pass for warnings.
        if let Some(error) = diagnostics
            .iter()
            .position(|diagnostic| diagnostic.severity == Severity::Error)
            && error >= MOST_REPORTED
        {
            diagnostics.swap(0, error);
        }
        let more = diagnostics
            .len()
            .saturating_sub(MOST_REPORTED)
            .saturating_add(dropped);
        diagnostics.truncate(MOST_REPORTED);
        Self {
            list: diagnostics,
            more,
        }
    }

    /// For editors and CI: an object with the key `"mistakes"`, a list of objects with the fields of [`Diagnostic`],
    /// and `more`.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({ "mistakes": self.list, "more": self.more })
    }
}

/// In the order of the file, each once.
pub(crate) fn sort(diagnostics: &mut Vec<Diagnostic>) {
    diagnostics.sort_by_key(|diagnostic| (diagnostic.line, diagnostic.column, diagnostic.severity));
    diagnostics.dedup_by(|b, a| {
        (a.line, a.column, &a.what, a.severity) == (b.line, b.column, &b.what, b.severity)
    });
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |severity| (self.list.iter()).filter(move |each| each.severity == severity);
        // First what prevents that the file is used.
        for diagnostic in of(Severity::Error).chain(of(Severity::Warning)) {
            writeln!(f, "{diagnostic}")?;
        }
        let errors = of(Severity::Error).count();
        let warnings = of(Severity::Warning).count();
        write!(f, "{errors} {}", plural("error", errors))?;
        if warnings > 0 {
            write!(f, ", {warnings} {}", plural("warning", warnings))?;
        }
        if self.more > 0 {
            write!(f, ", and {} more that are not shown", self.more)?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

fn plural(word: &str, count: usize) -> String {
    if count == 1 {
        word.to_owned()
    } else {
        format!("{word}s")
    }
}

/// Text from a file, safe to print: no control characters, cut where it is long.
pub(crate) fn shown(text: &str) -> String {
    const MOST_CHARS: usize = 60;
    let mut out: String = text.chars().take(MOST_CHARS).map(printable).collect();
    if text.chars().nth(MOST_CHARS).is_some() {
        out.push('…');
    }
    out
}

/// A line of a file around `column` (characters, from 0), safe to print, and where the column is in it.
pub(crate) fn excerpt(line: &str, column: usize) -> (String, usize) {
    // What stands far to the right of a long line is shown with a little of what is before it.
    let skip = if column >= MOST_SHOWN - 40 {
        column - 40
    } else {
        0
    };
    let mut out = String::new();
    if skip > 0 {
        out.push('…');
    }
    out.extend(line.chars().skip(skip).take(MOST_SHOWN).map(printable));
    if line.chars().nth(skip + MOST_SHOWN).is_some() {
        out.push('…');
    }
    (out, column - skip + usize::from(skip > 0))
}

/// Control and format characters would move what a terminal shows (Unicode TR 36, bidirectional text).
fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diagnostic(line: usize, what: &str) -> Diagnostic {
        Diagnostic {
            severity: Severity::Error,
            file: "a.yaml".to_owned(),
            line,
            column: 3,
            length: 4,
            path: "limits.headers".to_owned(),
            excerpt: "  many".to_owned(),
            excerpt_column: 2,
            what: what.to_owned(),
            allowed: Some("a whole number from 1 to 9".to_owned()),
            nearest: None,
        }
    }

    #[test]
    fn diagnostic_display_has_span_caret_and_fix() {
        assert_eq!(
            diagnostic(7, "\"many\" is not a whole number").to_string(),
            "a.yaml:7:3: limits.headers: \"many\" is not a whole number\n  \
             7 |   many\n    |   ^^^^\n  allowed: a whole number from 1 to 9"
        );
    }

    #[test]
    fn diagnostics_are_sorted_reported_once_and_counted() {
        let list = (0..150)
            .rev()
            .map(|n| diagnostic(n / 2 + 1, &(n / 3).to_string()));
        let diagnostics = Diagnostics::new(list.collect(), 0);
        assert_eq!(
            diagnostics.list.len(),
            MOST_REPORTED.min(diagnostics.list.len())
        );
        assert!(
            diagnostics
                .list
                .is_sorted_by_key(|diagnostic| diagnostic.line)
        );
        let many = Diagnostics::new((1..=130).map(|n| diagnostic(n, "bad")).collect(), 5);
        assert_eq!((many.list.len(), many.more), (100, 35));
        assert!(
            many.to_string()
                .ends_with("100 errors, and 35 more that are not shown")
        );
    }

    #[test]
    fn excerpt_of_long_line_shows_the_place() {
        let line = format!("{}bad{}", "x".repeat(1000), "y".repeat(1000));
        let (text, column) = excerpt(&line, 1000);
        assert_eq!(text.chars().skip(column).take(3).collect::<String>(), "bad");
        assert!(text.chars().count() <= MOST_SHOWN + 2);
        assert_eq!(excerpt("a\u{1b}[2J\u{202e}", 0).0, "a\u{fffd}[2J\u{fffd}");
    }
}
