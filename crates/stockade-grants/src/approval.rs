//! Who is asked before a call of a grant is made.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::Serialize;
use serde_json::Value;
use stockade_capability::CallPayload;

/// Bytes of the arguments that an approver gets.
const MOST_SHOWN: usize = 4 << 10;

/// Bytes of arguments that are read for an approver: parsed, they take a multiple of that.
const MOST_READ: usize = 256 << 10;

/// What is to be done. The arguments are hostile text: they are JSON where all of them are shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Asked {
    /// The instance whose guest calls.
    pub instance: Arc<str>,
    /// The grant's name in `env`.
    pub binding: Arc<str>,
    /// The grant's kind.
    pub kind: &'static str,
    /// The method.
    pub method: &'static str,
    /// The beginning of the arguments' JSON, at most 4 KiB.
    pub arguments: String,
    /// Whether more of the arguments is not shown: the rest of the text, binary parts or streams.
    pub more: bool,
}

impl Asked {
    /// The arguments as an approver gets them, and whether more of them is not shown. The host reads the same: spaces
    /// and other ways to write a text are gone, and characters that a terminal acts on are escaped.
    ///
    /// # Errors
    /// The arguments are not JSON, or so long that they would cost too much to be read twice.
    pub(crate) fn shown(arguments: &CallPayload) -> Result<(String, bool), &'static str> {
        let payload = &arguments.payload;
        if payload.json.len() > MOST_READ {
            return Err("its arguments are too long to be approved");
        }
        let value: Value =
            serde_json::from_str(&payload.json).map_err(|_| "its arguments are not JSON")?;
        let mut shown = String::new();
        let mut more = !payload.bytes.is_empty() || !arguments.streams.is_empty();
        for character in value.to_string().chars() {
            let length = shown.len();
            match character {
                character if acts_on_terminals(character) => {
                    let _ = write!(shown, "\\u{:04x}", u32::from(character));
                }
                character => shown.push(character),
            }
            if shown.len() > MOST_SHOWN {
                shown.truncate(length);
                more = true;
                break;
            }
        }
        Ok((shown, more))
    }
}

/// Control characters, and those that change the direction of text (Unicode Bidirectional Algorithm, 2).
fn acts_on_terminals(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Decides about calls.
pub trait Approver: Send + Sync + 'static {
    /// Whether the call may be made. An error is a refusal, and its text is for the log.
    fn approve(&self, asked: Asked) -> BoxFuture<'static, Result<bool, String>>;
}

/// Who approves the calls of a grant.
#[derive(Clone)]
pub struct Approval {
    /// What a reload compares: a grant whose approver has another name is another grant.
    pub name: Arc<str>,
    /// The one that is asked.
    pub approver: Arc<dyn Approver>,
    /// How long the answer may take. After it the call is refused.
    pub timeout: Duration,
}

#[cfg(test)]
mod tests {
    use stockade_protocol::Payload;

    use super::*;

    fn shown(json: &str) -> Result<(String, bool), &'static str> {
        Asked::shown(&CallPayload::from(Payload::from_json(json.to_owned())))
    }

    #[test]
    fn approver_sees_what_the_host_reads() {
        let spaces = format!("[{}{{\"a\":\r\n\"\\u0062\"}}]", " ".repeat(10_000));
        assert_eq!(shown(&spaces), Ok((r#"[{"a":"b"}]"#.to_owned(), false)));
        let (text, more) = shown(&format!("[\"{}\"]", "\u{e9}".repeat(5_000))).unwrap();
        assert!(text.len() <= MOST_SHOWN && more);
        shown("[").unwrap_err();
        shown(&format!("[\"{}\"]", "a".repeat(MOST_READ))).unwrap_err();
    }

    #[test]
    fn approver_sees_no_character_that_acts_on_a_terminal() {
        let (text, more) = shown("[\"\u{9b}31m\u{7f}\u{202e}\u{2066}\\u001b\"]").unwrap();
        assert_eq!(text, r#"["\u009b31m\u007f\u202e\u2066\u001b"]"#);
        assert!(!more);
    }
}
