//! One line of a source with a caret under a position.

/// Characters of a line that are shown at most.
const WIDTH: usize = 100;
/// How many of the characters stand before the caret where the line is cut.
const BEFORE: usize = 60;

/// The line of a source and, below it, a caret under the column.
///
/// `line` and `column` count from 1, the column in UTF-16 code units as V8 does. A long line is cut
/// around the caret. Tabs become spaces; control characters and those that change the direction of
/// text become `\u{FFFD}`, so that printing the excerpt cannot steer a terminal.
///
/// `None` if the source has no such line.
#[must_use]
pub fn excerpt(source: &str, line: u32, column: u32) -> Option<String> {
    let index = usize::try_from(line.checked_sub(1)?).ok()?;
    let text = lines(source).nth(index)?;
    let caret = characters_before(text, column.saturating_sub(1));
    let from = caret.saturating_sub(BEFORE);
    let mut shown = String::new();
    let mut rest = text.chars().skip(from);
    if from > 0 {
        shown.push('…');
        rest.next();
    }
    shown.extend(
        rest.by_ref()
            .take(WIDTH - usize::from(from > 0))
            .map(harmless),
    );
    if rest.next().is_some() {
        shown.push('…');
    }
    let mut out = String::with_capacity(shown.len() + caret - from + 2);
    out.push_str(shown.trim_end());
    out.push('\n');
    out.extend(std::iter::repeat_n(' ', caret - from));
    out.push('^');
    Some(out)
}

/// Lines by ECMAScript's line terminators; always at least one.
pub(crate) fn lines(source: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(source);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = text.find(['\n', '\r', '\u{2028}', '\u{2029}']) else {
            rest = None;
            return Some(text);
        };
        let (line, tail) = text.split_at_checked(end)?;
        let terminator = if tail.starts_with("\r\n") {
            2
        } else {
            tail.chars().next().map_or(0, char::len_utf8)
        };
        rest = tail.get(terminator..);
        Some(line)
    })
}

/// How many characters of a line lie before a column that counts UTF-16 units from 0.
fn characters_before(line: &str, column: u32) -> usize {
    let mut units = 0;
    let column = usize::try_from(column).unwrap_or(usize::MAX);
    line.chars()
        .take_while(|char| {
            let before = units < column;
            units += char.len_utf16();
            before
        })
        .count()
}

fn harmless(char: char) -> char {
    match char {
        '\t' => ' ',
        '\u{061c}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}' => char::REPLACEMENT_CHARACTER,
        _ if char.is_control() => char::REPLACEMENT_CHARACTER,
        _ => char,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(source: &str, line: u32, column: u32, expect: &str) {
        assert_eq!(excerpt(source, line, column).as_deref(), Some(expect));
    }

    #[test]
    fn caret_stands_under_the_column() {
        check("let a\nlet b = ;\n", 2, 9, "let b = ;\n        ^");
        check("x", 1, 1, "x\n^");
        check("", 1, 1, "\n^");
        check("a\r\nb c\r\n", 2, 3, "b c\n  ^");
    }

    #[test]
    fn column_after_an_astral_character_counts_two_units() {
        check("'😀' +", 1, 6, "'😀' +\n    ^");
    }

    #[test]
    fn control_characters_are_replaced_and_tabs_become_spaces() {
        check(
            "\ta\u{1b}[31m\u{202e}b\u{0}",
            1,
            3,
            " a\u{fffd}[31m\u{fffd}b\u{fffd}\n  ^",
        );
    }

    #[test]
    fn long_line_is_cut_around_the_caret() {
        let source = format!("{}!{}", "a".repeat(500), "b".repeat(500));
        let out = excerpt(&source, 1, 501).unwrap();
        let (line, caret) = out.split_once('\n').unwrap();
        assert!(line.starts_with('…') && line.ends_with('…'), "{line}");
        assert!(line.chars().count() <= WIDTH + 1);
        assert_eq!(line.chars().nth(caret.len() - 1), Some('!'));
    }

    #[test]
    fn missing_line_gives_none() {
        assert_eq!(excerpt("a", 2, 1), None);
        assert_eq!(excerpt("a", 0, 1), None);
    }

    #[test]
    fn column_beyond_the_line_is_the_end_of_the_line() {
        check("ab", 1, u32::MAX, "ab\n  ^");
    }
}
