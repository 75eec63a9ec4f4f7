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

fn clean(text: &str, max: usize, keep: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len().min(max));
    for c in text.chars() {
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
            out.push('…');
            break;
        }
    }
    out
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
    fn harmless_plain_text_is_unchanged() {
        let text = "naïve – 日本語 👩‍🚀\n\tdone";
        assert_eq!(harmless(text, 1000), text);
    }

    #[test]
    fn harmless_long_text_is_cut_at_a_character() {
        assert_eq!(harmless("ééé", 4), "éé…");
    }
}
