//! What a capability adds to the record of one call, for the operator.

use std::sync::Arc;

use parking_lot::Mutex;

/// Notes of one call.
const MOST_NOTES: usize = 16;
/// Bytes of the text of a note.
const MOST_TEXT: usize = 256;

/// A number or a text of a note. A text is hostile where a guest or a server chose it: the log escapes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// A count, bytes, an amount.
    Number(u64),
    /// At most 256 bytes.
    Text(String),
}

impl From<u64> for Note {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for Note {
    fn from(text: &str) -> Self {
        Self::Text(text[..text.floor_char_boundary(MOST_TEXT)].to_owned())
    }
}

#[derive(Debug, Default)]
struct Inner {
    notes: Vec<(&'static str, Note)>,
    refused: Option<&'static str>,
}

/// What the audit event of one call says besides method, outcome and time. A capability writes it while it works;
/// clones write into the same notes. At most 16 are kept.
#[derive(Debug, Clone, Default)]
pub struct CallNotes(Arc<Mutex<Inner>>);

impl CallNotes {
    /// Adds a note, or replaces the one with this name. Secrets, statements' parameters and contents do not belong
    /// into notes.
    pub fn add(&self, name: &'static str, note: impl Into<Note>) {
        let note = note.into();
        let mut inner = self.0.lock();
        if let Some(known) = inner.notes.iter_mut().find(|(known, _)| *known == name) {
            known.1 = note;
        } else if inner.notes.len() < MOST_NOTES {
            inner.notes.push((name, note));
        }
    }

    /// States that the grant's policy refuses the call, by a fixed word that is a metric's label.
    pub fn refused(&self, reason: &'static str) {
        self.0.lock().refused = Some(reason);
    }

    /// Why the grant's policy refuses the call.
    #[must_use]
    pub fn refusal(&self) -> Option<&'static str> {
        self.0.lock().refused
    }

    /// Takes the notes.
    #[must_use]
    pub fn take(&self) -> Vec<(&'static str, Note)> {
        std::mem::take(&mut self.0.lock().notes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_bounded_in_number_and_length() {
        let notes = CallNotes::default();
        let names: [&str; 20] = [
            "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q",
            "r", "s", "t",
        ];
        for name in names {
            notes.add(name, "é".repeat(1000).as_str());
        }
        notes.clone().add("a", 7);
        let taken = notes.take();
        assert_eq!(taken.len(), MOST_NOTES);
        assert_eq!(taken[0], ("a", Note::Number(7)));
        assert!(matches!(&taken[1].1, Note::Text(text) if text.len() == MOST_TEXT));
        assert_eq!(notes.refusal(), None);
        assert!(notes.take().is_empty());
    }
}
