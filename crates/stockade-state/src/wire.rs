//! The calls of a guest's `env.STATE`.

/// Data of a call, laid out as `stockade_protocol::Payload` is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Data {
    /// JSON text.
    pub json: String,
    /// The binary parts.
    pub bytes: Vec<Vec<u8>>,
    /// Whether `json` has marks.
    pub marked: bool,
}

/// A failure as the guest sees it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {message}")]
pub struct WireError {
    /// Name of the JavaScript error: `TypeError`, `RangeError`, `QuotaExceededError`, `BusyError`, `StateError`.
    pub name: &'static str,
    /// What went wrong.
    pub message: String,
}

/// Does one call: `args` is the array of arguments.
///
/// # Errors
/// When the arguments do not fit the method, or the keyspace refuses.
pub async fn call(
    keyspace: &dyn crate::Keyspace,
    method: &str,
    args: Data,
) -> Result<Data, WireError> {
    let _ = (keyspace, args);
    Err(WireError {
        name: "TypeError",
        message: format!("no method {method}"),
    })
}
