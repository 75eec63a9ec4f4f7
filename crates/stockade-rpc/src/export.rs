//! Calls of what a guest's main module exports.

use stockade_protocol::{Edit, Mark, MarksError, Payload, rewrite_marks};
use stockade_supervisor::{CallError, IsolateHandle};

/// Put before a function's name, it names an export of the main module and nothing else; without it a
/// call finds global functions too, `eval` among them. Read by `stockade_realm/boot.js`.
pub const EXPORT: char = '\0';

/// Why a call of an export gave no value.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The main module exports no function of this name.
    #[error("the module exports no function of this name")]
    NoExport,
    /// The guest threw, or there is no reply.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// Calls an exported function with a JSON array of arguments; a promise is awaited.
///
/// # Errors
/// When there is no such export, and as [`IsolateHandle::call`].
pub async fn call_export(
    handle: &IsolateHandle,
    name: &str,
    args: Payload,
) -> Result<Payload, ExportError> {
    let reply = handle.call(format!("{EXPORT}{name}"), args).await?;
    if reply.is_no_export() {
        return Err(ExportError::NoExport);
    }
    Ok(reply)
}

/// The JSON text of a value, `null` for `undefined`; `None` where it holds bytes or streams, or is no
/// JSON at all.
#[must_use]
pub fn plain_json(payload: Payload) -> Option<String> {
    if payload.json.is_empty() {
        return Some("null".to_owned());
    }
    if !payload.marked {
        return Some(payload.json);
    }
    rewrite_marks(&payload.json, |mark| match mark {
        Mark::Text => Ok(Edit::Unescape),
        _ => Err(NotPlain),
    })
    .ok()
}

/// Data holds what JSON cannot hold.
struct NotPlain;

impl From<MarksError> for NotPlain {
    fn from(_: MarksError) -> Self {
        Self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(json: &str) -> Payload {
        Payload {
            marked: true,
            ..Payload::from_json(json.to_owned())
        }
    }

    #[test]
    fn plain_json_of_undefined_is_null() {
        assert_eq!(plain_json(Payload::default()).unwrap(), "null");
    }

    #[test]
    fn plain_json_takes_escapes_away_and_refuses_marks() {
        let escaped = marked(r#"[{"a":"\u0000\u0000b0"},1]"#);
        assert_eq!(plain_json(escaped).unwrap(), r#"[{"a":"\u0000b0"},1]"#);
        let lone = marked(r#"["\u0000\u0000\ud800",{"\udc00":1}]"#);
        assert_eq!(
            plain_json(lone).unwrap(),
            r#"["\u0000\ud800",{"\udc00":1}]"#
        );
        assert_eq!(plain_json(marked(r#"{"a":["\u0000b0"]}"#)), None);
        assert_eq!(plain_json(Payload::from_bytes(vec![1])), None);
    }
}
