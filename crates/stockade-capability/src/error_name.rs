//! The names of the errors that a capability gives to the code of a guest.

use stockade_protocol::GuestError;

/// Why a call was not done. `docs/workers-api.md` documents the names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorName {
    /// What is asked for cannot be: a `TypeError`.
    Type,
    /// A bound on sizes and numbers: a `RangeError`.
    Range,
    /// Storage is full: a `QuotaExceededError`.
    Quota,
    /// Too much at once, and worth another try: a `BusyError`.
    Busy,
    /// What was asked for took longer than it may: a `TimeoutError`.
    Timeout,
    /// What a database answered: a `DatabaseError`, whose code [`Self::coded`] gives.
    Database,
    /// A failure of one kind of capability, by the name that its documentation gives.
    Own(&'static str),
}

impl ErrorName {
    /// The `name` of the JavaScript error.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Type => "TypeError",
            Self::Range => "RangeError",
            Self::Quota => "QuotaExceededError",
            Self::Busy => "BusyError",
            Self::Timeout => "TimeoutError",
            Self::Database => "DatabaseError",
            Self::Own(name) => name,
        }
    }

    /// An error of this name. Its message is for the guest: it holds no path, address or secret of the host.
    #[must_use]
    pub fn error(self, message: impl Into<String>) -> GuestError {
        GuestError {
            name: self.name().to_owned(),
            ..GuestError::new(message)
        }
    }

    /// As [`Self::error`], with the error's `code`, such as an SQLSTATE.
    #[must_use]
    pub fn coded(self, code: impl Into<String>, message: impl Into<String>) -> GuestError {
        GuestError {
            code: Some(code.into()),
            ..self.error(message)
        }
    }
}
