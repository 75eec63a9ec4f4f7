//! When `scheduled` is called.

use std::sync::Arc;

use croner::parser::{CronParser, Seconds, Year};

use crate::diagnostic::shown;
use crate::keys::CRON;
use crate::tree::Message;
use crate::value::from_text;

/// When `scheduled` is called, UTC: five fields.
#[derive(Debug, Clone, PartialEq)]
pub struct Cron {
    /// The five fields as written.
    pub text: Arc<str>,
    /// The times that they stand for.
    pub times: croner::Cron,
}

from_text! {
    Cron = Cron::parse,
}

impl Cron {
    /// Reads five fields.
    ///
    /// # Errors
    /// What is wrong with them, and what is allowed.
    pub fn read(text: &str) -> Result<Self, String> {
        Self::parse(text).map_err(|message| {
            let allowed = message.allowed.unwrap_or_default();
            format!("{}\n  allowed: {allowed}", message.what)
        })
    }

    fn parse(text: &str) -> Result<Self, Message> {
        let parser = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build();
        let times = parser.parse(text).map_err(|error| {
            let why = error.to_string();
            let why = shown(why.trim_end_matches('.'));
            let what = format!("{:?} is not a cron expression: {why}", shown(text));
            Message::allowed(what, CRON.what)
        })?;
        Ok(Self {
            text: text.into(),
            times,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cron_that_is_none_is_refused_with_its_text() {
        assert!(Cron::parse("*/15 * * * *").is_ok());
        for text in [
            "",
            "* * * *",
            "61 * * * *",
            "a b c d e",
            "* * * * * * * *",
            "* * * * * *",
        ] {
            let message = Cron::parse(text).unwrap_err();
            assert!(message.what.contains("is not a cron expression"), "{text}");
        }
    }
}
