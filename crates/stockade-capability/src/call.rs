//! The data of a call, on its way to a capability and back.

use std::fmt;

use futures_util::future::BoxFuture;
use stockade_http::Body;
use stockade_protocol::{GuestError, Payload};

/// Data with streams of bytes and targets of calls in it: the arguments of a call, or its value. The id of a mark in the
/// data is a place in `streams` or `targets`; [`Payload`] describes marks.
#[derive(Default)]
pub struct CallPayload {
    /// The data.
    pub payload: Payload,
    /// The data names each of them at most once.
    pub streams: Vec<Body>,
    /// The data names each of them at most once.
    pub targets: Vec<Box<dyn Target>>,
}

impl From<Payload> for CallPayload {
    fn from(payload: Payload) -> Self {
        Self {
            payload,
            streams: Vec::new(),
            targets: Vec::new(),
        }
    }
}

impl fmt::Debug for CallPayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallPayload")
            .field("payload", &self.payload)
            .field("streams", &self.streams.len())
            .field("targets", &self.targets.len())
            .finish()
    }
}

/// A function or an object with methods, which a guest has passed to another one. It is released when it is dropped.
pub trait Target: Send + Sync + 'static {
    /// Calls the function, or a method of the object, with an array of arguments, or reads a property.
    ///
    /// # Errors
    /// What the guest threw; also when it has ended, or has no such part.
    fn call(
        &self,
        part: &Part,
        arguments: CallPayload,
    ) -> BoxFuture<'static, Result<CallPayload, GuestError>>;
}

/// What of a target is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// The function that it is.
    Itself,
    /// The method of this name, as a hostile guest wrote it.
    Method(String),
    /// The value of the property of this name, as a hostile guest wrote it. There are no arguments.
    Property(String),
}

impl Part {
    /// The name of the method or of the property.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Itself => None,
            Self::Method(name) | Self::Property(name) => Some(name),
        }
    }
}
