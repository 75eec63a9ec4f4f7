//! Calls of what a guest's main module exports.

use stockade_protocol::Payload;
use stockade_supervisor::{CallError, IsolateHandle};

/// Put before a function's name, it names an export of the main module and nothing else; without it a
/// call finds global functions too, `eval` among them. Read by `stockade_realm/boot.js`.
pub(crate) const EXPORT: char = '\0';

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
    payload.into_plain_json()
}
