//! Text from a guest, made safe for a terminal and a log.

/// Cuts `text` to at most `max` bytes and replaces what could steer a terminal or forge a line:
/// every control character but newline and tab, and the Unicode characters that reorder text
/// (U+202A to U+202E, U+2066 to U+2069). A replaced character is shown as its escape.
#[must_use]
pub fn harmless(text: &str, max: usize) -> String {
    clean(text, max, |c| c == '\n' || c == '\t')
}

/// Like [`harmless`], for text that must stay on one line: newlines are replaced as well.
#[must_use]
pub fn harmless_line(text: &str, max: usize) -> String {
    clean(text, max, |c| c == '\t')
}

/// The beginning of `text`, as [`harmless`] makes it but without a mark where it is cut, and what is left
/// of it: nothing is lost. `max` is at least the 10 bytes of the longest escape.
#[must_use]
pub fn harmless_piece(text: &str, max: usize) -> (String, &str) {
    let (piece, taken) = take(text, max, |c| c == '\n' || c == '\t');
    (piece, &text[taken..])
}

fn clean(text: &str, max: usize, keep: impl Fn(char) -> bool) -> String {
    let (mut out, taken) = take(text, max, keep);
    if taken < text.len() {
        out.push('…');
    }
    out
}

/// As much of `text` as is at most `max` bytes once it is harmless, and how many bytes of it that is.
fn take(text: &str, max: usize, keep: impl Fn(char) -> bool) -> (String, usize) {
    let mut out = String::with_capacity(text.len().min(max));
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        // Most texts are printable ASCII, which is taken in one go.
        let room = max.saturating_sub(out.len()).min(text.len() - at);
        if matches!(c, ' '..='~') && room > 0 {
            let run = printable(&text.as_bytes()[at..at + room]);
            out.push_str(&text[at..at + run]);
            at += run;
            continue;
        }
        let hostile = (c.is_control() && !keep(c))
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}');
        let before = out.len();
        if hostile {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
        if out.len() > max {
            out.truncate(before);
            return (out, at);
        }
        at += c.len_utf8();
    }
    (out, at)
}

/// How many bytes of printable ASCII `bytes` begins with.
fn printable(bytes: &[u8]) -> usize {
    let is_printable = |byte: &u8| (b' '..=b'~').contains(byte);
    let mut length = 0;
    // Without an early end within a piece, so that all of it is checked in a few steps.
    for piece in bytes.chunks(32) {
        if !piece
            .iter()
            .fold(true, |all, byte| all & is_printable(byte))
        {
            return length + piece.iter().take_while(|byte| is_printable(byte)).count();
        }
        length += piece.len();
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn harmless_escape_sequences_are_shown() {
        assert_eq!(harmless("a\u{1b}[2Jb\r\nc", 100), "a\\u{1b}[2Jb\\u{d}\nc");
        assert_eq!(harmless("\u{9b}31m\u{202e}x", 100), "\\u{9b}31m\\u{202e}x");
        assert_eq!(harmless_line("a\nb", 100), "a\\u{a}b");
    }

    #[test]
    fn harmless_cuts_and_escapes_at_every_place_of_a_run() {
        for before in 0..70 {
            let plain = "x".repeat(before);
            let text = format!("{plain}\u{1b}{plain}é{plain}");
            let whole = format!("{plain}\\u{{1b}}{plain}é{plain}");
            assert_eq!(harmless(&text, 1000), whole);
            for max in 10..whole.len() {
                let (piece, rest) = harmless_piece(&text, max);
                assert!(piece.len() <= max && whole.starts_with(&piece));
                assert_eq!(piece.clone() + &harmless(rest, 1000), whole);
                // Only an escape or a character that does not fit leaves room.
                assert!(piece.len() + 6 > max, "{before} {max} {piece}");
            }
        }
    }

    #[test]
    fn harmless_plain_text_is_unchanged() {
        let text = "naïve – 日本語 👩‍🚀\n\tdone";
        assert_eq!(harmless(text, 1000), text);
    }

    #[test]
    fn harmless_long_text_is_cut_at_a_character() {
        assert_eq!(harmless("ééé", 4), "éé…");
    }

    #[test]
    fn harmless_pieces_together_are_the_whole() {
        let text = "é\u{1b}[2J\u{202e}\n".repeat(1000);
        let mut left = text.as_str();
        let mut pieces = Vec::new();
        while !left.is_empty() {
            let (piece, rest) = harmless_piece(left, 100);
            assert!(!piece.is_empty() && piece.len() <= 100, "{piece}");
            assert!(rest.len() < left.len());
            pieces.push(piece);
            left = rest;
        }
        assert_eq!(pieces.concat(), harmless(&text, usize::MAX));
    }
}
