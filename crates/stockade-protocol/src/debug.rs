//! What waits between a debugger and V8, bounded in bytes.

use std::collections::VecDeque;

use crate::bounds::MAX_DEBUG_BYTES;

/// Bytes that a message has in memory besides its text.
const OVERHEAD: usize = 64;

/// Bytes that a message between a debugger and an isolate has in memory.
#[must_use]
pub fn debug_message_size(text: &str) -> usize {
    text.len().saturating_add(OVERHEAD)
}

/// The bytes of a debugger's commands that V8 has not answered, and of what else waits with them: at most
/// [`MAX_DEBUG_BYTES`]. V8 takes commands from a queue without a bound, and answers them in their order.
#[derive(Debug, Default)]
pub struct UnansweredCommands {
    /// The bytes of each command, in the order in which V8 answers them.
    commands: VecDeque<usize>,
    /// The bytes of all commands and of all that is kept with them.
    bytes: usize,
}

impl UnansweredCommands {
    /// Counts a command for V8. False if there is no room for it; it is not counted then.
    #[must_use]
    pub fn sent(&mut self, command: &str) -> bool {
        let fits = self.keep(command);
        if fits {
            self.commands.push_back(debug_message_size(command));
        }
        fits
    }

    /// Takes a message of V8. True if it is an answer, which makes room: an answer begins with the number of its command,
    /// or with what is wrong with a command that has no number.
    pub fn received(&mut self, message: &str) -> bool {
        let is_answer = message.starts_with("{\"id\":") || message.starts_with("{\"error\":");
        if is_answer {
            let size = self.commands.pop_front().unwrap_or(0);
            self.bytes = self.bytes.saturating_sub(size);
        }
        is_answer
    }

    /// Counts a text that waits for the debugger. False if there is no room for it; it is not counted then.
    #[must_use]
    pub fn keep(&mut self, text: &str) -> bool {
        let bytes = self.bytes.saturating_add(debug_message_size(text));
        let fits = bytes <= MAX_DEBUG_BYTES;
        if fits {
            self.bytes = bytes;
        }
        fits
    }

    /// Stops counting a text that was [kept](Self::keep).
    pub fn release(&mut self, text: &str) {
        self.bytes = self.bytes.saturating_sub(debug_message_size(text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_what_is_kept_share_one_bound_and_answers_make_room() {
        let large = "x".repeat(MAX_DEBUG_BYTES / 2 - OVERHEAD);
        let mut unanswered = UnansweredCommands::default();
        assert!(unanswered.sent(&large) && unanswered.keep(&large));
        assert!(!unanswered.sent("") && !unanswered.keep(""));
        assert!(!unanswered.received(r#"{"method":"Debugger.paused"}"#));
        assert!(!unanswered.sent(""));
        assert!(unanswered.received(r#"{"id":1,"result":{}}"#));
        // An answer that no command has asked for makes no room.
        assert!(unanswered.received(r#"{"error":{"code":-32700}}"#));
        assert!(unanswered.sent(&large) && !unanswered.sent(""));
        unanswered.release(&large);
        assert!(unanswered.keep(&large) && !unanswered.keep(""));
    }
}
