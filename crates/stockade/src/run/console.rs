//! What a guest printed, within bounds.

use serde::Serialize;
use stockade_protocol::ConsoleLevel;

/// Calls of `console` that are kept at most.
pub const MAX_CONSOLE_LINES: usize = 1 << 17;

/// What one call of `console` printed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// `debug`, `info`, `warn` or `error`.
    pub level: &'static str,
    /// Without the newline at its end.
    pub text: String,
}

/// Keeps what a guest prints in pieces, up to a number of bytes and [`MAX_CONSOLE_LINES`], and counts the rest.
#[derive(Debug)]
pub struct Console {
    lines: Vec<Line>,
    bytes: usize,
    most_bytes: usize,
    rest: Rest,
    dropped: u64,
}

/// What becomes of the further pieces of a call of `console`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// There are none.
    #[default]
    None,
    /// Further pieces belong to the last line.
    Joined,
    /// Further pieces are dropped, as one before them was.
    Dropped,
}

impl Console {
    /// Keeps at most this many bytes of text.
    #[must_use]
    pub fn new(most_bytes: usize) -> Self {
        Self {
            lines: Vec::new(),
            bytes: 0,
            most_bytes,
            rest: Rest::None,
            dropped: 0,
        }
    }

    /// Takes a piece, which ends with a newline where it is the last of a call. Returns the line if this piece completes
    /// one and nothing of it was dropped.
    pub fn take(&mut self, level: ConsoleLevel, piece: &str) -> Option<&Line> {
        let whole = piece.strip_suffix('\n');
        let text = whole.unwrap_or(piece);
        let goes_on = whole.is_none();
        let rest = std::mem::take(&mut self.rest);
        let joined = rest == Rest::Joined
            && (self.lines.last()).is_some_and(|last| last.level == level.name());
        let full = self.bytes + text.len() > self.most_bytes
            || (!joined && self.lines.len() >= MAX_CONSOLE_LINES);
        if full || rest == Rest::Dropped {
            // A call of which a piece is dropped is counted once.
            match goes_on {
                true => self.rest = Rest::Dropped,
                false => self.dropped += 1,
            }
            return None;
        }
        match self.lines.last_mut() {
            Some(last) if joined => last.text.push_str(text),
            _ => self.lines.push(Line {
                level: level.name(),
                text: text.to_owned(),
            }),
        }
        self.bytes += text.len();
        if goes_on {
            self.rest = Rest::Joined;
            return None;
        }
        self.lines.last()
    }

    /// Calls of `console` of which something was dropped.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped + u64::from(self.rest == Rest::Dropped)
    }

    /// What was kept, in its order.
    #[must_use]
    pub fn into_lines(self) -> Vec<Line> {
        self.lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 1 << 20;

    fn line(level: &'static str, text: &str) -> Line {
        Line {
            level,
            text: text.to_owned(),
        }
    }

    #[test]
    fn console_joins_the_pieces_of_a_call() {
        let mut console = Console::new(MOST);
        assert_eq!(console.take(ConsoleLevel::Info, "a\nb"), None);
        let whole = line("info", "a\nbc");
        assert_eq!(console.take(ConsoleLevel::Info, "c\n"), Some(&whole));
        console.take(ConsoleLevel::Info, "\n");
        console.take(ConsoleLevel::Error, "d\n");
        let lines = [whole, line("info", ""), line("error", "d")];
        assert_eq!(console.into_lines(), lines);
    }

    #[test]
    fn console_beyond_its_bounds_is_counted() {
        let mut console = Console::new(MOST);
        for _ in 0..MAX_CONSOLE_LINES + 3 {
            console.take(ConsoleLevel::Info, "x\n");
        }
        assert_eq!(
            (console.lines.len(), console.dropped()),
            (MAX_CONSOLE_LINES, 3)
        );
        let mut console = Console::new(MOST);
        console.take(ConsoleLevel::Info, &"x".repeat(MOST));
        console.take(ConsoleLevel::Info, "y\n");
        console.take(ConsoleLevel::Info, "\n");
        assert_eq!((console.lines.len(), console.dropped()), (2, 1));
        assert_eq!(console.lines[0].text.len(), MOST);
        assert_eq!(console.lines[1].text, "");
    }

    #[test]
    fn console_drops_the_tail_of_a_call_that_was_dropped() {
        let mut console = Console::new(MOST);
        console.take(ConsoleLevel::Info, &"x".repeat(MOST - 2));
        console.take(ConsoleLevel::Info, "\n");
        console.take(ConsoleLevel::Info, "too long");
        assert_eq!(console.dropped(), 1);
        console.take(ConsoleLevel::Info, "!\n");
        console.take(ConsoleLevel::Info, "y\n");
        assert_eq!((console.lines.len(), console.dropped()), (2, 1));
        assert_eq!(console.lines[1].text, "y");
    }

    #[test]
    fn console_takes_the_rest_of_the_last_line_that_there_is_room_for() {
        let mut console = Console::new(MOST);
        for _ in 1..MAX_CONSOLE_LINES {
            console.take(ConsoleLevel::Info, "x\n");
        }
        console.take(ConsoleLevel::Info, "a");
        console.take(ConsoleLevel::Info, "b\n");
        assert_eq!(
            (console.lines.len(), console.dropped()),
            (MAX_CONSOLE_LINES, 0)
        );
        assert_eq!(console.lines[MAX_CONSOLE_LINES - 1].text, "ab");
    }
}
