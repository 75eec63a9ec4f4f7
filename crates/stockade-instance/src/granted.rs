//! What is granted to an isolate that is not a mirror: the guest of a host script, of a program or of a command.
//!
//! Its calls, streams and requests are those of a mirror: the same messages, parsed as hostile input and held to the
//! same bounds. Everything else that the isolate sends is its host's.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::Context;

use futures_util::future::BoxFuture;
use http::{Request, Response};
use serde::Deserialize;
use stockade_capability::{Capability, Owner};
use stockade_http::{Body, UpstreamSocket};
use stockade_limits::IsolateOptions;
use stockade_protocol::{GuestError, Payload};
use stockade_supervisor::{DestroyReason, End, Event, IsolateHandle, Supervisor, TerminateReason};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::error::FetchError;
use crate::fetch::fetch_from;
use crate::limits::InstanceLimits;
use crate::mirror::Mirror;
use crate::observer::Unobserved;
use crate::options::InstanceOptions;
use crate::pool::Pool;
use crate::services::{NoServices, Services};

/// The number of the first stream that is opened for the guest here. The streams of the guest's host have lower ones:
/// it numbers them from 0, and no isolate lives long enough for it to get here.
const FIRST_STREAM: u64 = 1 << 40;

/// The capabilities of an isolate, and nothing else.
pub struct GrantedServices {
    granted: HashMap<String, Arc<dyn Capability>>,
}

impl GrantedServices {
    /// By their names in `env`.
    #[must_use]
    pub fn new(granted: HashMap<String, Arc<dyn Capability>>) -> Self {
        Self { granted }
    }
}

impl Services for GrantedServices {
    fn fetch(
        &self,
        request: Request<Body>,
    ) -> BoxFuture<'static, Result<Response<Body>, GuestError>> {
        NoServices.fetch(request)
    }

    fn websocket(
        &self,
        url: String,
        protocols: Vec<String>,
    ) -> BoxFuture<'static, Result<UpstreamSocket, GuestError>> {
        NoServices.websocket(url, protocols)
    }

    fn capability(&self, name: &str) -> Option<Arc<dyn Capability>> {
        self.granted.get(name).map(Arc::clone)
    }

    fn ended(&self, owner: &Owner) {
        for capability in self.granted.values() {
            capability.ended(owner);
        }
    }
}

/// The key of `env` that switches the runtime of a guest to handlers of requests. No key of a user begins with U+0000.
const SERVES: &str = "\0serve";

/// Has the guest that is created with these options answer requests by the handlers of its main module's default
/// export, as a site does.
pub fn set_serving(options: &mut IsolateOptions) {
    options.env.insert(SERVES.to_owned(), true.into());
}

/// Answers requests by the `fetch` handler of a guest. Cheap to clone, usable from any thread; it does not keep the
/// guest alive.
#[derive(Clone)]
pub struct FetchHandler {
    mirror: Arc<Mirror>,
}

impl FetchHandler {
    /// Has the guest answer a request, whose URI is absolute. The future may be dropped at any time: the request is
    /// aborted then. It completes only while the events of the isolate are taken.
    ///
    /// # Errors
    /// Why there is no response of the guest.
    pub async fn fetch(&self, request: Request<Body>) -> Result<Response<Body>, FetchError> {
        fetch_from(&self.mirror, request).await
    }

    /// The limits of what the guest answers.
    #[must_use]
    pub fn limits(&self) -> &InstanceLimits {
        self.mirror.limits()
    }
}

/// Which requests of the guest are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Those for bindings.
    Bindings,
    /// Those, and `fetch`.
    BindingsAndFetch,
}

/// An isolate and what it is granted. When the isolate ends, and when this is dropped, what runs is aborted and the
/// capabilities close what the isolate holds open: the isolate's last events need not be taken for that. Must be made
/// within a tokio runtime, which does all its work.
pub struct GrantedGuest {
    mirror: Arc<Mirror>,
    takes: Takes,
    runtime: Handle,
    /// Whether it answers requests.
    serves: bool,
    closing: AbortHandle,
}

/// The id that a message of the runtime names.
#[derive(Deserialize)]
struct Named {
    id: u64,
}

impl GrantedGuest {
    /// `name` is the owner's in the records of calls. `limits` are those of what the guest answers, where
    /// [`set_serving`] was applied to its options, and of what it asks for.
    #[must_use]
    pub fn new(
        name: &str,
        supervisor: Supervisor,
        handle: IsolateHandle,
        services: Arc<dyn Services>,
        takes: Takes,
        limits: InstanceLimits,
    ) -> Self {
        let options = InstanceOptions {
            limits,
            ..InstanceOptions::new(name, IsolateOptions::default())
        };
        let pool = Pool::new(options, supervisor, services, Arc::new(Unobserved));
        let serves = handle.options().env.contains_key(SERVES);
        let mirror = Mirror::new(handle.id(), handle, None, pool);
        mirror.number_streams_from(FIRST_STREAM);
        let ending = Arc::clone(&mirror);
        let closing = tokio::spawn(async move {
            ending.handle.until_end().await;
            close(&ending);
        });
        Self {
            mirror,
            takes,
            runtime: Handle::current(),
            serves,
            closing: closing.abort_handle(),
        }
    }

    /// What answers requests, where [`set_serving`] was applied to the isolate's options.
    #[must_use]
    pub fn fetch_handler(&self) -> Option<FetchHandler> {
        self.serves.then(|| FetchHandler {
            mirror: Arc::clone(&self.mirror),
        })
    }

    /// Takes what belongs to the grants; gives back what does not. A message that breaks the protocol terminates
    /// the isolate.
    pub fn take(&self, event: Event) -> Option<Event> {
        let _within = self.runtime.enter();
        let taken = match event {
            Event::Request { id, method, data } => {
                if !self.is_taken(&method) {
                    return Some(Event::Request { id, method, data });
                }
                self.mirror.asked(id, &method, data)
            }
            Event::Control { name, data } => {
                if !self.is_ours(&name, &data) {
                    return Some(Event::Control { name, data });
                }
                self.mirror.control(&name, data)
            }
            other => return Some(other),
        };
        if let Err(malformed) = taken {
            let handle = &self.mirror.handle;
            handle.terminate(TerminateReason::PolicyViolation, malformed.to_string());
        }
        None
    }

    /// Whether a call has no answer yet, or the guest waits for a chunk of a stream: something will happen without it.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.mirror.has_asks() || self.mirror.has_awaited_streams()
    }

    /// Wakes the task when a stream no longer makes the guest busy, which may be after the guest has dealt with the last
    /// message of it. One task at a time.
    pub fn watch(&self, cx: &Context<'_>) {
        self.mirror.watch_streams(cx);
    }

    fn is_taken(&self, method: &str) -> bool {
        match method {
            "binding.call" | "binding.fetch" | "binding.open" => true,
            "fetch" => self.takes == Takes::BindingsAndFetch,
            _ => false,
        }
    }

    /// Whether a control message is about a call or a stream that is open here.
    fn is_ours(&self, name: &str, data: &Payload) -> bool {
        let id = || serde_json::from_str::<Named>(&data.json).map(|named| named.id);
        match name {
            "request.cancel" => id().is_ok_and(|id| self.mirror.is_asking(id)),
            "stream.chunk" | "stream.end" | "stream.error" => {
                id().is_ok_and(|id| self.mirror.reads_stream(id))
            }
            // Nobody else opens connections for the guest.
            "pipe.data" | "pipe.end" | "pipe.tls" | "pipe.close" | "pipe.credit" => true,
            "http.response" | "http.failed" | "http.settled" | "call.pending" | "call.settled"
            | "socket.message" | "socket.close" | "socket.credit" | "serve.ready"
            | "serve.failed" => self.serves,
            "stream.pull" | "stream.cancel" => id().is_ok_and(|id| id >= FIRST_STREAM),
            _ => false,
        }
    }
}

/// Answers what is open, and takes no more.
fn close(mirror: &Mirror) {
    let end = mirror.handle.end();
    mirror.close(&end.unwrap_or(End::Destroyed(DestroyReason::Requested)));
}

impl Drop for GrantedGuest {
    fn drop(&mut self) {
        let _within = self.runtime.enter();
        self.closing.abort();
        close(&self.mirror);
    }
}
