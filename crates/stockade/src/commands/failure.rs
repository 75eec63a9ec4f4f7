//! Why a guest did not do what it was started for.

use std::time::Duration;

use stockade::bounds::MAX_ERROR_BYTES;
use stockade::{CallError, End, GuestError, TerminateReason};
use stockade_protocol::harmless;

use super::exit;
use super::guest::Refusal;

/// One word for machines, a text for people, an exit code, and what else is known.
pub(crate) struct Failure {
    pub(crate) reason: &'static str,
    /// Empty where there is nothing to say.
    pub(crate) message: String,
    pub(crate) code: i32,
    /// What the guest threw.
    pub(crate) error: Option<GuestError>,
}

impl Failure {
    pub(crate) fn new(reason: &'static str, message: String, code: i32) -> Self {
        Self {
            reason,
            message,
            code,
            error: None,
        }
    }

    /// The guest threw this; `uncaught`: not as the answer to a call.
    pub(crate) fn threw(error: GuestError, uncaught: bool) -> Self {
        let text = describe(&error);
        let (reason, message) = match uncaught {
            true => ("uncaught", format!("uncaught {text}")),
            false => ("threw", text),
        };
        Self {
            error: Some(error),
            ..Self::new(reason, message, exit::FAILED)
        }
    }

    /// The isolate has ended.
    pub(crate) fn ended(end: Option<End>) -> Self {
        let reason = match &end {
            Some(End::Terminated { reason, .. }) => reason.name(),
            Some(End::Destroyed(reason)) => reason.name(),
            None => "ended",
        };
        let end = end.as_ref();
        Self::new(reason, ended(end), exit::code_of(end))
    }

    /// A call has no reply.
    pub(crate) fn no_reply(error: &CallError, end: Option<End>) -> Self {
        match error {
            CallError::Guest(error) => Self::threw(error.clone(), false),
            CallError::Ended { .. } | CallError::Send(_) if end.is_some() => Self::ended(end),
            error => Self::new("no_reply", error.to_string(), exit::FAILED),
        }
    }

    /// It can have no reply.
    pub(crate) fn never_settles(what: &str) -> Self {
        Self::new("never_settles", what.to_owned(), exit::FAILED)
    }

    pub(crate) fn timeout(limit: Duration) -> Self {
        let ms = limit.as_millis();
        let message = format!(
            "the guest was not done within {ms} ms\n  fix: raise it with --timeout <TIME>, where 0 is no limit"
        );
        Self::new("timeout", message, exit::TIME)
    }

    /// The user asked for the end.
    pub(crate) fn interrupted(code: i32) -> Self {
        Self::new("interrupted", String::new(), code)
    }
}

/// What happened before there was a guest.
impl From<Refusal> for Failure {
    fn from(Refusal(message, code): Refusal) -> Self {
        Self::new("not_started", message, code)
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self(failure.message, failure.code)
    }
}

/// Name, message and stack, without the runtime's own frames, and the same of what the error came of.
pub(crate) fn describe(error: &GuestError) -> String {
    harmless(&error.trace(), MAX_ERROR_BYTES)
}

/// Why a guest was ended: the limit and where in its code that was, what it had used, and what to do.
fn ended(end: Option<&End>) -> String {
    let Some(end) = end else {
        return "the guest was ended".to_owned();
    };
    let mut text = format!("the guest was ended: {end}");
    let End::Terminated { reason, usage, .. } = end else {
        return text;
    };
    let flag = match reason {
        TerminateReason::CpuLimit if text.contains("cpuTotalMs") => "--cpu-total <TIME>",
        TerminateReason::CpuLimit => "--cpu-limit <TIME>",
        TerminateReason::WallLimit => "--wall-limit <TIME>",
        TerminateReason::MemoryLimit => "--memory-limit <SIZE>",
        TerminateReason::Crashed | TerminateReason::PolicyViolation => return text,
    };
    let ms = |time: std::time::Duration| time.as_millis();
    let megabytes = usage.memory as f64 / f64::from(1 << 20);
    text.push_str(&format!(
        "\n  used: {} ms of CPU time and {} ms elapsed in this activation, {megabytes:.1} MB of memory\n  \
         fix: raise it with {flag}, where 0 is no limit, or have the guest do or keep less at a time",
        ms(usage.cpu),
        ms(usage.wall),
    ));
    text
}

#[cfg(test)]
mod tests {
    use stockade::{DestroyReason, ResourceUsage};

    use super::*;

    #[test]
    fn failure_of_a_limit_names_the_option() {
        let end = |reason| End::Terminated {
            reason,
            usage: ResourceUsage::default(),
            detail: "memoryLimitMb 8".to_owned(),
        };
        let failure = Failure::ended(Some(end(TerminateReason::MemoryLimit)));
        assert_eq!(
            (failure.reason, failure.code),
            ("memory_limit_exceeded", exit::MEMORY)
        );
        assert!(
            failure
                .message
                .contains("\n  fix: raise it with --memory-limit <SIZE>, where 0 is no limit")
        );
        let failure = Failure::ended(Some(end(TerminateReason::Crashed)));
        assert!(!failure.message.contains("fix:"));
        let failure = Failure::ended(Some(End::Destroyed(DestroyReason::Shutdown)));
        assert_eq!((failure.reason, failure.code), ("shutdown", exit::FAILED));
    }
}
