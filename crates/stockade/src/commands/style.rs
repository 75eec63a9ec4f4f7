//! Colours, where a terminal shows them.

use std::io::IsTerminal;

/// Whether there are colours.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style {
    colours: bool,
}

/// Whether a stream is to have colours: it is a terminal that has them, and `NO_COLOR` (no-color.org) is not
/// set.
pub(crate) fn wanted(stream: &impl IsTerminal) -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_none_or(|terminal| terminal == "dumb");
    stream.is_terminal() && !set("NO_COLOR") && !dumb
}

impl Style {
    /// What suits a stream.
    pub(crate) fn of(stream: &impl IsTerminal) -> Self {
        Self {
            colours: wanted(stream),
        }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colours {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// What went wrong.
    pub(crate) fn bad(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    /// What went well.
    pub(crate) fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// What the user may do.
    pub(crate) fn label(self, text: &str) -> String {
        self.paint("36", text)
    }

    /// A name, a place.
    pub(crate) fn name(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// A message of several lines: the labels that its later lines begin with stand out.
    pub(crate) fn message(self, text: &str) -> String {
        if !self.colours {
            return text.to_owned();
        }
        let mut lines = text.split('\n');
        let mut out = lines.next().unwrap_or_default().to_owned();
        for line in lines {
            out.push('\n');
            out.push_str(&self.line(line));
        }
        out
    }

    fn line(self, line: &str) -> String {
        let rest = line.trim_start();
        let indent = &line[..line.len() - rest.len()];
        for label in ["fix:", "checked:", "allowed:", "used:", "did you mean:"] {
            if let Some(after) = rest.strip_prefix(label) {
                return format!("{indent}{}{after}", self.label(label));
            }
        }
        match rest.trim_start_matches("| ").trim_start() {
            carets if !carets.is_empty() && carets.chars().all(|c| c == '^') => {
                let before = &line[..line.len() - carets.len()];
                format!("{before}{}", self.bad(carets))
            }
            _ => line.to_owned(),
        }
    }

    /// Diagnostics of a configuration, each of which begins with its place.
    pub(crate) fn diagnostics(self, text: &str) -> String {
        if !self.colours {
            return text.to_owned();
        }
        let place = |line: &str| {
            let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            let mut colons = line.match_indices(':').map(|(at, _)| at);
            let (first, second, third) = (colons.next()?, colons.next()?, colons.next()?);
            let placed = number(&line[first + 1..second]) && number(&line[second + 1..third]);
            placed.then_some(third)
        };
        let lines = text.split('\n').map(|line| match place(line) {
            Some(end) => format!("{}{}", self.name(&line[..end]), &line[end..]),
            None => self.line(line),
        });
        Vec::from_iter(lines).join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Style = Style { colours: false };
    const COLOURED: Style = Style { colours: true };

    #[test]
    fn style_without_a_terminal_changes_nothing() {
        let text = "a.yaml:1:2: bad\n  1 | x\n    | ^\n  fix: y";
        assert_eq!(PLAIN.message(text), text);
        assert_eq!(PLAIN.diagnostics(text), text);
        assert_eq!(PLAIN.bad("error"), "error");
    }

    #[test]
    fn style_paints_places_carets_and_labels() {
        assert_eq!(
            COLOURED.diagnostics("a.yaml:1:2: bad\n  1 | x\n    | ^\n  allowed: y"),
            "\x1b[1ma.yaml:1:2\x1b[0m: bad\n  1 | x\n    | \x1b[1;31m^\x1b[0m\n  \x1b[36mallowed:\x1b[0m y"
        );
        assert_eq!(
            COLOURED.message("fix: no label here\n  fix: do it"),
            "fix: no label here\n  \x1b[36mfix:\x1b[0m do it"
        );
    }
}
