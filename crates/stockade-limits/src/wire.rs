//! Options on their way to a worker process of the same program.

use crate::options::IsolateOptions;

/// A text that [`IsolateOptions::to_wire`] did not make.
#[derive(Debug, thiserror::Error)]
#[error("the options of an isolate cannot be read: {0}")]
pub struct WireError(#[from] serde_json::Error);

impl IsolateOptions {
    /// The options as JSON text for [`IsolateOptions::from_wire`]. Neither the text nor its keys are
    /// for people, or last beyond this version.
    #[must_use]
    pub fn to_wire(&self) -> String {
        // Every map in it has strings for keys, so JSON holds it. An empty text would be refused.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads what [`IsolateOptions::to_wire`] has written. The sender is trusted: ranges are not
    /// checked again.
    ///
    /// # Errors
    /// When the text is anything else.
    pub fn from_wire(text: &str) -> Result<Self, WireError> {
        Ok(serde_json::from_str(text)?)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::num::{NonZeroU32, NonZeroU64};
    use std::time::Duration;

    use super::*;
    use crate::limits::{CpuShare, Limits};
    use crate::options::{CgroupUse, ConsoleMode, Isolation, Wx};

    #[test]
    fn wire_options_with_every_field_set_come_back_equal() {
        let env = serde_json::json!({ "a": [1, 0.1, -2.5e-7, null, true], "b\u{0}": { "c": "\u{2028}é" } });
        let options = IsolateOptions {
            name: Some("n \"1\"".to_owned()),
            isolation: Isolation::Container,
            group: Some("tenant-a".to_owned()),
            template: Some("tenant-a".to_owned()),
            wx: Wx::Strict,
            cgroup: CgroupUse::Require,
            kill_grace: Duration::from_millis(33),
            limits: Limits {
                cpu: Some(Duration::from_nanos(1_234_567_891)),
                cpu_total: Some(Duration::MAX),
                cpu_share: CpuShare::new(0.1).unwrap(),
                wall: None,
                request_timeout: Some(Duration::from_micros(7)),
                memory: Some(u64::MAX),
                io_ops: NonZeroU32::new(5),
                io_bytes: NonZeroU64::new(1 << 40),
                pending_requests: 9,
            },
            env: env.as_object().cloned().unwrap(),
            modules: BTreeMap::from([
                (
                    "main.ts".to_owned(),
                    "export const a = '\u{1f600}\\n\u{7f}';\n".to_owned(),
                ),
                (String::new(), String::new()),
            ]),
            main: Some("main.ts".to_owned()),
            console: ConsoleMode::Inherit,
            timer_precision: Duration::from_micros(1),
            shared_array_buffer: true,
            inspect: true,
            record_cpu: true,
        };
        let defaults = IsolateOptions::default();
        for options in [options, defaults] {
            assert_eq!(
                IsolateOptions::from_wire(&options.to_wire()).unwrap(),
                options
            );
        }
    }

    #[test]
    fn wire_text_that_is_not_options_is_refused() {
        let good = IsolateOptions::default().to_wire();
        for text in [
            "",
            "{}",
            &good[..good.len() - 1],
            &good.replace("\"cpu_share\":1.0", "\"cpu_share\":1.5"),
            &good.replace("\"wx\"", "\"xw\""),
        ] {
            assert!(IsolateOptions::from_wire(text).is_err(), "{text}");
        }
    }
}
