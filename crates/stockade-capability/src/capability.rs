//! The trait of a capability, and who calls it.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::{Request, Response};
use stockade_http::Body;
use stockade_protocol::GuestError;

use crate::{CallNotes, CallPayload, CallPlace, ErrorName, Pipe};

/// The isolate that calls: one mirror of an instance. A capability keeps what a guest holds open by its owner.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The name of the instance.
    pub instance: Arc<str>,
    /// Which start of the instance the mirror belongs to. A changed instance starts again under the same name, and
    /// a grant that did not change serves both while the old one drains.
    pub start: u64,
    /// The number of the mirror. No mirror of the same start has it again.
    pub mirror: u32,
}

/// What a capability knows of a call besides its arguments.
#[derive(Debug, Clone)]
pub struct CallContext {
    /// Who calls.
    pub owner: Owner,
    /// What the record of this call is to say.
    pub notes: CallNotes,
    /// What the call occupies: goes with all work that outlives the call's future.
    pub place: CallPlace,
}

/// What an instance was granted under one name of `env`.
///
/// Each kind has the methods it can do something with; the others refuse. The futures own what they need, so a call
/// goes on when its grant is replaced. When a guest cancels a call its future is dropped; work that goes on then keeps
/// [`CallContext::place`].
pub trait Capability: Send + Sync + 'static {
    /// `env.NAME.method(...args)`.
    fn call(
        &self,
        _context: CallContext,
        method: &str,
        _arguments: CallPayload,
    ) -> BoxFuture<'static, Result<CallPayload, GuestError>> {
        refuse(format!("the binding has no method {:?}", shortened(method)))
    }

    /// `env.NAME.fetch(request)`. The host of the URL is chosen by the guest and means nothing.
    fn fetch(
        &self,
        _context: CallContext,
        _request: Request<Body>,
    ) -> BoxFuture<'static, Result<Response<Body>, GuestError>> {
        refuse("the binding takes no requests".to_owned())
    }

    /// `env.NAME.method(...args)` whose result is a connection, such as `env.NAME.connect()`.
    ///
    /// The mirror that asks holds the [`Pipe`] and drops it when the mirror ends: [`Capability::ended`] has nothing to
    /// close for it.
    fn open(
        &self,
        _context: CallContext,
        method: &str,
        _arguments: CallPayload,
    ) -> BoxFuture<'static, Result<Pipe, GuestError>> {
        refuse(format!(
            "the binding opens no connection by {:?}",
            shortened(method)
        ))
    }

    /// `owner` has ended and calls no more: whatever it holds open here is closed. It is called once for each owner,
    /// also for one that never called.
    fn ended(&self, _owner: &Owner) {}
}

fn refuse<T: Send + 'static>(why: String) -> BoxFuture<'static, Result<T, GuestError>> {
    Box::pin(std::future::ready(Err(ErrorName::Type.error(why))))
}

/// The beginning of a text that a guest chose, for an error's message.
fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    struct Nothing;

    impl Capability for Nothing {}

    #[test]
    fn capability_without_methods_refuses_with_a_type_error() {
        let context = || CallContext {
            owner: Owner {
                instance: "shop".into(),
                start: 1,
                mirror: 1,
            },
            notes: CallNotes::default(),
            place: CallPlace::default(),
        };
        let method = "m".repeat(1000);
        let called = Nothing.call(context(), &method, CallPayload::default());
        let error = called.now_or_never().unwrap().unwrap_err();
        assert_eq!(error.name, "TypeError");
        assert!(error.message.len() < 100, "{error}");
        let opened = Nothing.open(context(), &method, CallPayload::default());
        let error = opened.now_or_never().unwrap().unwrap_err();
        assert_eq!(error.name, "TypeError");
        assert!(error.message.len() < 100, "{error}");
        let request = Request::new(stockade_http::empty_body());
        let fetched = Nothing.fetch(context(), request);
        let error = fetched.now_or_never().unwrap().unwrap_err();
        assert_eq!(error.name, "TypeError");
    }
}
