//! What the record of a call says of the statement that it ran.

use stockade_capability::CallNotes;

/// Bytes of the word that a record has.
const MOST_WORD: usize = 16;

/// Notes the first word of a statement: what kind of statement it is. Its text may hold anything.
pub(crate) fn note_statement(notes: &CallNotes, sql: &str) {
    let word: String = sql
        .trim_start()
        .chars()
        .take_while(char::is_ascii_alphabetic)
        .take(MOST_WORD)
        .collect();
    notes.add("statement", &*word.to_ascii_lowercase());
}
