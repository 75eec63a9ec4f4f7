//! What the guests of one site may ask of their host: the outside through the broker, and what the configuration grants
//! to the site.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use stockade_broker::{Egress, EgressError, Sockets};
use stockade_capability::{CallContext, CallPayload, Capability, ErrorName, Owner, Pipe};
use stockade_http::{Body, UpstreamSocket, key_in_charge};
use stockade_instance::{ConnectRequest, Services};
use stockade_protocol::GuestError;
use stockade_trace::{Trace, Tracing};

use crate::capabilities::{CallUsage, Granted};
use crate::metrics::{Counts, SiteMetrics};
use crate::observe::Logs;
use crate::sockets;

/// What begins traces now, for sites that go on across changes of it.
pub(crate) type CurrentTracing = Arc<ArcSwapOption<Tracing>>;

/// What one site's guests may ask.
pub(crate) struct SiteServices {
    egress: Arc<Egress>,
    sockets: Arc<Sockets>,
    granted: HashMap<String, Arc<dyn Capability>>,
    tracing: CurrentTracing,
}

impl SiteServices {
    pub(crate) fn new(
        egress: Arc<Egress>,
        sockets: Arc<Sockets>,
        granted: HashMap<String, Granted>,
        metrics: &Arc<SiteMetrics>,
        logs: &Arc<Logs>,
        tracing: CurrentTracing,
    ) -> Self {
        let granted = granted.into_iter().map(|(name, granted)| {
            let Granted {
                capability,
                calls,
                usage,
            } = granted;
            let capability = match calls {
                None => capability,
                Some(calls) => Arc::new(Counted {
                    capability,
                    calls,
                    usage,
                    metrics: Arc::clone(metrics),
                    logs: Arc::clone(logs),
                }),
            };
            (name, capability)
        });
        Self {
            egress,
            sockets,
            granted: granted.collect(),
            tracing,
        }
    }
}

impl Services for SiteServices {
    fn fetch(
        &self,
        request: Request<Body>,
    ) -> BoxFuture<'static, Result<Response<Body>, GuestError>> {
        let egress = Arc::clone(&self.egress);
        Box::pin(async move { egress.fetch(request).await.map_err(|error| refused(&error)) })
    }

    fn websocket(
        &self,
        url: String,
        protocols: Vec<String>,
    ) -> BoxFuture<'static, Result<UpstreamSocket, GuestError>> {
        let egress = Arc::clone(&self.egress);
        Box::pin(async move {
            let opened = egress.websocket(url, protocols).await;
            opened.map_err(|error| refused(&error))
        })
    }

    fn connect(&self, request: ConnectRequest) -> BoxFuture<'static, Result<Pipe, GuestError>> {
        Box::pin(sockets::open(Arc::clone(&self.sockets), request))
    }

    fn capability(&self, name: &str) -> Option<Arc<dyn Capability>> {
        self.granted.get(name).map(Arc::clone)
    }

    fn begin_trace(&self) -> Option<Trace> {
        self.tracing
            .load()
            .as_ref()
            .map(|tracing| tracing.begin(None))
    }

    fn ended(&self, owner: &Owner) {
        for capability in self.granted.values() {
            capability.ended(owner);
        }
    }
}

/// `fetch` rejects with a `TypeError` whatever goes wrong.
fn refused(error: &EgressError) -> GuestError {
    ErrorName::Type.error(error.to_string())
}

/// A capability whose calls are counted.
struct Counted {
    capability: Arc<dyn Capability>,
    calls: fn(&SiteMetrics) -> &Counts,
    usage: Option<CallUsage>,
    metrics: Arc<SiteMetrics>,
    logs: Arc<Logs>,
}

impl Counted {
    fn count<T: 'static>(
        &self,
        call: BoxFuture<'static, Result<T, GuestError>>,
    ) -> BoxFuture<'static, Result<T, GuestError>> {
        let (metrics, calls) = (Arc::clone(&self.metrics), self.calls);
        Box::pin(async move {
            let outcome = call.await;
            let word = if outcome.is_ok() { "ok" } else { "error" };
            calls(&metrics).add(word, 1);
            outcome
        })
    }
}

impl Capability for Counted {
    fn call(
        &self,
        context: CallContext,
        method: &str,
        arguments: CallPayload,
    ) -> BoxFuture<'static, Result<CallPayload, GuestError>> {
        let sent = arguments.payload.size() as u64;
        let called = self.count(self.capability.call(context, method, arguments));
        let Some(usage) = self.usage else {
            return called;
        };
        let (metrics, logs) = (Arc::clone(&self.metrics), Arc::clone(&self.logs));
        Box::pin(async move {
            let outcome = called.await;
            let received = outcome
                .as_ref()
                .map_or(0, |value| value.payload.size() as u64);
            logs.usage
                .add(&metrics.name, key_in_charge(), &usage(sent, received));
            outcome
        })
    }

    fn fetch(
        &self,
        context: CallContext,
        request: Request<Body>,
    ) -> BoxFuture<'static, Result<Response<Body>, GuestError>> {
        self.count(self.capability.fetch(context, request))
    }

    fn open(
        &self,
        context: CallContext,
        method: &str,
        arguments: CallPayload,
    ) -> BoxFuture<'static, Result<Pipe, GuestError>> {
        self.count(self.capability.open(context, method, arguments))
    }

    fn ended(&self, owner: &Owner) {
        self.capability.ended(owner);
    }
}
