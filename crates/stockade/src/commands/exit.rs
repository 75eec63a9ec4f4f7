//! Exit codes of `call`, `exec` and `rpc`.

use stockade::{DestroyReason, End, TerminateReason};

/// What was asked for was done.
pub(crate) const DONE: i32 = 0;
/// The guest threw, or its module cannot be read or run.
pub(crate) const FAILED: i32 = 1;
/// Bad usage.
pub(crate) const USAGE: i32 = 2;
/// The module exports no such function.
pub(crate) const NO_EXPORT: i32 = 3;
/// A limit or a deadline, as of timeout(1).
pub(crate) const LIMIT: i32 = 124;
/// The isolate crashed or was ended for what it tried.
pub(crate) const BROKEN: i32 = 125;

/// The code for an isolate that ended.
pub(crate) fn code_of(end: Option<&End>) -> i32 {
    match end {
        Some(End::Terminated { reason, .. }) => match reason {
            TerminateReason::CpuLimit
            | TerminateReason::WallLimit
            | TerminateReason::MemoryLimit => LIMIT,
            TerminateReason::Crashed | TerminateReason::PolicyViolation => BROKEN,
        },
        Some(End::Destroyed(DestroyReason::Requested)) => DONE,
        Some(End::Destroyed(_)) | None => FAILED,
    }
}
