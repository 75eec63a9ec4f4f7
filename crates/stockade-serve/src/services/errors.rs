//! Errors of the parts that act for guests, as guests see them.

use stockade_broker::{EgressError, FileError};
use stockade_instance::FetchError;
use stockade_protocol::GuestError;

fn named(name: &str, message: String) -> GuestError {
    GuestError {
        name: name.to_owned(),
        ..GuestError::new(message)
    }
}

/// Of a request to the outside. `fetch` rejects with a `TypeError` whatever goes wrong.
pub(super) fn egress(error: &EgressError) -> GuestError {
    named("TypeError", error.to_string())
}

/// Of a bound.
pub(super) fn range(message: String) -> GuestError {
    named("RangeError", message)
}

/// Of a granted folder.
pub(super) fn file(error: &FileError) -> GuestError {
    named(error.name(), error.to_string())
}

/// Of a request to another site. What a handler of that site threw reaches its caller: both belong to the
/// operator who bound them.
pub(crate) fn site(name: &str, error: FetchError) -> GuestError {
    match error {
        FetchError::Threw(error) => error,
        other => GuestError::new(format!("{name}: {other}")),
    }
}
