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
    let in_a_file = format(logging.format);
    let on_standard_error = match logging.format {
        Some(LogFormat::Json) => Format::Json,
        Some(LogFormat::Text | LogFormat::Terminal) | None => {
            Format::of_terminal().unwrap_or(in_a_file)
        }
    };
    let access = logging.access.as_ref();
    let access = access.and_then(|access| access.file.clone());
    LogOptions {
        level: level(logging.level),
        format: match logging.file {
            Some(_) => in_a_file,
            None => on_standard_error,
        },
        destination: logging
            .file
            .clone()
            .map_or(Destination::StandardError, Destination::File),
        access: access.map(|path| (Destination::File(path), in_a_file)),
    }
}

/// How lines look that nobody watches.
fn format(format: Option<LogFormat>) -> Format {
    match format {
        Some(LogFormat::Text) => Format::Text,
        Some(LogFormat::Terminal) => Format::Terminal { colours: false },
        Some(LogFormat::Json) | None => Format::Json,
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
