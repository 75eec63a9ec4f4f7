//! What is reported about an attempt.

use serde::{Serialize, Serializer};
use stockade_jail::{Level, Wx};

/// How one attempt went.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The number of its group of attempts, 1 to 39.
    pub group: u8,
    /// What was tried.
    pub name: &'static str,
    /// The harmless control that was done as well.
    pub control: &'static str,
    /// The level.
    #[serde(serialize_with = "name_of_level")]
    pub level: Level,
    /// Executable memory.
    #[serde(serialize_with = "name_of_wx")]
    pub wx: Wx,
    /// Whether the level held.
    #[serde(flatten)]
    pub result: AttemptResult,
    /// What is on record about it.
    pub denial: Option<String>,
    /// Microseconds from the request to the end of the attempt.
    pub micros: u64,
}

/// Whether the level held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum AttemptResult {
    /// It did, and the harmless control works.
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

/// Writes the name that the options have for it.
fn name_of_level<S: Serializer>(level: &Level, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(match level {
        Level::Process => "process",
        Level::Container => "container",
    })
}

/// Writes the name that the options have for it.
fn name_of_wx<S: Serializer>(wx: &Wx, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(match wx {
        Wx::Jit => "jit",
        Wx::Strict => "strict",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_as_json_names_things_as_the_options_do() {
        let report = Report {
            group: 2,
            name: "openat /etc/passwd",
            control: "messages",
            level: Level::Container,
            wx: Wx::Strict,
            result: AttemptResult::Broken {
                why: "it went through".to_owned(),
            },
            denial: None,
            micros: 900,
        };
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["level"], "container");
        assert_eq!(json["wx"], "strict");
        assert_eq!(json["verdict"], "broken");
        assert_eq!(json["why"], "it went through");
    }
}
