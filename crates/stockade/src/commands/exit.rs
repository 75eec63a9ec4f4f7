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
/// The limit of CPU time.
pub(crate) const CPU: i32 = 121;
/// The limit of memory.
pub(crate) const MEMORY: i32 = 122;
/// The isolate was ended for what it tried.
pub(crate) const VIOLATION: i32 = 123;
/// The limit of elapsed time or the deadline, as of timeout(1).
pub(crate) const TIME: i32 = 124;
/// The isolate crashed.
pub(crate) const CRASHED: i32 = 125;
/// The reader of standard output is gone, as after SIGPIPE.
pub(crate) const OUTPUT_CLOSED: i32 = 141;

/// What the help of these commands says of the codes above.
pub(crate) const ENDS: &str = "121 the CPU limit, 122 the memory limit, 123 ended for what it tried, 124 the limit of \
    elapsed time or the timeout, 125 a crash";

/// The code for an isolate that ended.
pub(crate) fn code_of(end: Option<&End>) -> i32 {
    match end {
        Some(End::Terminated { reason, .. }) => match reason {
            TerminateReason::CpuLimit => CPU,
            TerminateReason::WallLimit => TIME,
            TerminateReason::MemoryLimit => MEMORY,
            TerminateReason::Crashed => CRASHED,
            TerminateReason::PolicyViolation => VIOLATION,
        },
        Some(End::Destroyed(DestroyReason::Requested)) => DONE,
        Some(End::Destroyed(_)) | None => FAILED,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use stockade::ResourceUsage;

    use super::*;

    #[test]
    fn code_of_each_reason_is_another() {
        let reasons = [
            TerminateReason::CpuLimit,
            TerminateReason::WallLimit,
            TerminateReason::MemoryLimit,
            TerminateReason::Crashed,
            TerminateReason::PolicyViolation,
        ];
        let code = |reason| {
            code_of(Some(&End::Terminated {
                reason,
                usage: ResourceUsage::default(),
                detail: String::new(),
            }))
        };
        let codes = BTreeSet::from(reasons.map(code));
        assert_eq!(
            codes,
            BTreeSet::from([CPU, MEMORY, VIOLATION, TIME, CRASHED])
        );
        for code in codes {
            assert!(ENDS.contains(&code.to_string()), "{code}");
        }
    }
}
