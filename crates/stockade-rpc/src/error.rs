//! Error objects of replies.

use jsonrpsee::types::ErrorObjectOwned;
use jsonrpsee::types::error::{
    ErrorCode, INVALID_PARAMS_CODE, OVERSIZED_RESPONSE_CODE, OVERSIZED_RESPONSE_MSG,
};
use serde_json::json;
use stockade_protocol::GuestError;
use stockade_supervisor::End;

/// Codes of errors in addition to those of the JSON-RPC specification.
pub mod code {
    /// The guest threw; `data.name` is the error's class where it has one.
    pub const GUEST_THREW: i32 = -32000;
    /// No reply in time.
    pub const DEADLINE: i32 = -32001;
    /// The isolate ended; `data.reason` says why.
    pub const ISOLATE_ENDED: i32 = -32003;
    /// The request is larger than the limit.
    pub const REQUEST_TOO_LARGE: i32 = jsonrpsee::types::error::OVERSIZED_REQUEST_CODE;
    /// The response would be larger than the limit.
    pub const RESPONSE_TOO_LARGE: i32 = jsonrpsee::types::error::OVERSIZED_RESPONSE_CODE;
    /// Too many calls at the same time.
    pub const BUSY: i32 = jsonrpsee::types::error::SERVER_IS_BUSY_CODE;
    /// The API key does not allow to call the function; `data.scope` is what it lacks.
    pub const FORBIDDEN: i32 = -32004;
    /// A limit of the API key is used up; `data.limit` is its name and `data.retryAfter` the seconds to wait.
    pub const LIMITED: i32 = -32005;
    /// The API key is no longer valid.
    pub const KEY_ENDED: i32 = -32006;
    /// More calls in a batch than the limit.
    pub const BATCH_TOO_LARGE: i32 = jsonrpsee::types::error::TOO_BIG_BATCH_REQUEST_CODE;
}

fn object(
    code: i32,
    message: impl Into<String>,
    data: Option<serde_json::Value>,
) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(code, message, data)
}

pub(crate) fn no_such_method() -> ErrorObjectOwned {
    ErrorCode::MethodNotFound.into()
}

pub(crate) fn wrong_params() -> ErrorObjectOwned {
    let why = "the parameters must be a list or an object";
    object(INVALID_PARAMS_CODE, "Invalid params", Some(json!(why)))
}

pub(crate) fn internal() -> ErrorObjectOwned {
    ErrorCode::InternalError.into()
}

pub(crate) fn busy() -> ErrorObjectOwned {
    let busy = ErrorCode::ServerIsBusy;
    object(code::BUSY, busy.message(), None)
}

pub(crate) fn forbidden(scope: &str) -> ErrorObjectOwned {
    let message = format!("the API key does not allow this: the scope {scope} is needed");
    object(code::FORBIDDEN, message, Some(json!({ "scope": scope })))
}

pub(crate) fn limited(limit: &str, seconds: u64) -> ErrorObjectOwned {
    let message = format!("the limit {limit} is used up: try again in {seconds} s");
    let data = json!({ "limit": limit, "retryAfter": seconds });
    object(code::LIMITED, message, Some(data))
}

pub(crate) fn key_ended() -> ErrorObjectOwned {
    object(code::KEY_ENDED, "the API key is no longer valid", None)
}

pub(crate) fn deadline() -> ErrorObjectOwned {
    object(code::DEADLINE, "no reply in time", None)
}

pub(crate) fn too_large(limit: u32) -> ErrorObjectOwned {
    let data = json!(format!("Exceeded max limit of {limit}"));
    object(OVERSIZED_RESPONSE_CODE, OVERSIZED_RESPONSE_MSG, Some(data))
}

pub(crate) fn not_json() -> ErrorObjectOwned {
    let message = "the result holds bytes or streams, which JSON cannot hold";
    object(code::GUEST_THREW, message, None)
}

pub(crate) fn threw(error: GuestError) -> ErrorObjectOwned {
    let data = (!error.name.is_empty()).then(|| json!({ "name": error.name }));
    object(code::GUEST_THREW, error.message, data)
}

/// The reason's word alone: the details are the operator's.
pub(crate) fn ended(end: Option<&End>) -> ErrorObjectOwned {
    let reason = match end {
        Some(End::Terminated { reason, .. }) => reason.name(),
        Some(End::Destroyed(reason)) => reason.name(),
        None => "start_failed",
    };
    object(
        code::ISOLATE_ENDED,
        format!("the isolate ended: {reason}"),
        Some(json!({ "reason": reason })),
    )
}
