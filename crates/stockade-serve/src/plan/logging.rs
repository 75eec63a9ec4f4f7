//! From what the configuration says of logs to their options.

use stockade_audit::AuditOptions;
use stockade_config as config;
use stockade_config::{Config, LogFormat};
use stockade_usage::LedgerOptions;
use tracing::Level;

use crate::log::{Destination, Format, LogOptions, Redaction};

/// How lines of the log look and where they go.
pub(crate) fn options(config: &Config) -> LogOptions {
    let logging = &config.logging;
    LogOptions {
        level: level(logging.level),
        format: match logging.format {
            LogFormat::Text if logging.file.is_none() => Format::text_on_standard_error(),
            format => in_a_file(format),
        },
        destination: logging
            .file
            .clone()
            .map_or(Destination::StandardError, Destination::File),
    }
}

/// The level in `tracing`'s terms.
pub(crate) fn level(level: config::Level) -> Level {
    match level {
        config::Level::Trace => Level::TRACE,
        config::Level::Debug => Level::DEBUG,
        config::Level::Info => Level::INFO,
        config::Level::Warn => Level::WARN,
        config::Level::Error => Level::ERROR,
    }
}

/// How lines look that nobody watches.
pub(crate) fn in_a_file(format: LogFormat) -> Format {
    match format {
        LogFormat::Json => Format::Json,
        LogFormat::Text => Format::Text,
    }
}

/// What the audit log is like.
pub(crate) fn audit(config: &config::Audit) -> AuditOptions {
    AuditOptions {
        folder: config.folder.clone(),
        key: config.key.clone(),
        file_size: config.file_size,
        files: config.files,
        keep: config.keep,
        checkpoint: config.checkpoint,
    }
}

/// What the ledger of usage is like.
pub(crate) fn usage(config: &config::Usage) -> LedgerOptions {
    let days = config.keep.as_secs() / 86_400;
    LedgerOptions {
        path: config.path.clone(),
        interval: config.interval,
        keep_days: Some(u32::try_from(days).unwrap_or(u32::MAX)),
        keys: config.keys,
        key_totals: config.key_metrics,
    }
}

/// What no line has.
pub(crate) fn redaction(config: &Config) -> Redaction {
    let logging = &config.logging;
    Redaction::new(
        logging.redact.headers.iter().map(|name| name.as_str()),
        logging.redact.query.iter().map(String::as_str),
    )
}
