//! From what the configuration says of logs to their options.

use stockade_config::{Config, LogFormat};

use crate::log::{Destination, Format, LogOptions, Redaction};

/// How lines of the log look and where they go.
pub(crate) fn options(config: &Config) -> LogOptions {
    let logging = &config.logging;
    LogOptions {
        level: format!("{:?}", logging.level).to_ascii_lowercase(),
        format: match logging.format {
            LogFormat::Json => Format::Json,
            LogFormat::Text => Format::Text,
        },
        destination: logging
            .file
            .clone()
            .map_or(Destination::StandardError, Destination::File),
    }
}

/// What no line has.
pub(crate) fn redaction(config: &Config) -> Redaction {
    let logging = &config.logging;
    Redaction::new(
        logging.redact_headers.iter().map(String::as_str),
        logging.redact_query.iter().map(String::as_str),
    )
}
