//! Printed text against expected text with wildcards.

use std::path::{Path, PathBuf};

use regex::Regex;

const ANY: &str = "[WILDCARD]";
const ANY_IN_LINE: &str = "[WILDLINE]";

/// What must be printed.
pub(crate) struct Expected {
    path: PathBuf,
    text: String,
    pattern: Regex,
}

impl Expected {
    /// Reads the file; where there is none, nothing may be printed.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(format!("{}: {error}", path.display())),
        };
        let pattern = regex::escape(&text)
            .replace(&regex::escape(ANY), "(?s:.*)")
            .replace(&regex::escape(ANY_IN_LINE), "[^\\n]*");
        let pattern = Regex::new(&format!("^{pattern}$"))
            .map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            text,
            pattern,
        })
    }

    pub(crate) fn matches(&self, printed: &str) -> bool {
        self.pattern.is_match(printed)
    }

    /// Says where the two part.
    pub(crate) fn difference(&self, what: &str, printed: &str) -> String {
        let mut expected = self.text.lines();
        let mut actual = printed.lines();
        let mut number = 1;
        loop {
            match (expected.next(), actual.next()) {
                (Some(a), Some(b)) if a == b => number += 1,
                (a, b) => {
                    return format!(
                        "{what} is not what {} says, from line {number} or the first wildcard on:\n  expected: {}\n  printed:  {}",
                        self.path.display(),
                        a.unwrap_or("(end)"),
                        b.unwrap_or("(end)")
                    );
                }
            }
        }
    }
}

/// Makes what was printed the expectation; the folder it ran in becomes a wildcard.
pub(crate) fn write(path: &Path, printed: &str, folder: &Path) -> Result<(), String> {
    let text = printed.replace(&*folder.to_string_lossy(), ANY_IN_LINE);
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}
