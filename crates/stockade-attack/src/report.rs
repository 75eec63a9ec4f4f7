//! What is told about an attempt.

use serde::Serialize;
use stockade_jail::{Level, Wx};

/// How one attempt went.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Of the groups of attempts, 1 to 39.
    pub group: u8,
    /// What was tried.
    pub name: &'static str,
    /// The harmless thing that was done beside it.
    pub twin: &'static str,
    /// The wall.
    pub level: Level,
    /// Executable memory.
    pub wx: Wx,
    /// Whether the wall held.
    pub result: Verdict,
    /// What is on record about it.
    pub denial: Option<String>,
    /// Microseconds from the request to the end of the attempt.
    pub micros: u64,
}

/// Whether the wall held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// It did, and the harmless twin works.
    Held,
    /// It did not, or hinders the harmless, or nobody would know.
    Broken {
        /// What was seen and what should have been.
        why: String,
    },
    /// Nothing is promised here, or it cannot be tried.
    Skipped {
        /// Why.
        why: String,
    },
}
