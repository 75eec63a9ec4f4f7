//! The guest's exports as the methods of a JSON-RPC service.

use std::sync::Arc;

use jsonrpsee::core::middleware::{Batch, BatchEntry, Notification, RpcServiceT};
use jsonrpsee::core::server::{BatchResponseBuilder, MethodResponse, ResponsePayload};
use jsonrpsee::types::{ErrorObjectOwned, Request};
use serde_json::value::RawValue;
use stockade_callers::{Authority, Caller, Denial, Noted};
use stockade_http::RequestAccount;
use stockade_protocol::Payload;
use stockade_protocol::bounds::MAX_NAME_BYTES;
use stockade_supervisor::{CallError, SendError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, timeout_at};

use crate::error;
use crate::export::{EXPORT, ExportError, call_export, plain_json};
use crate::lifecycle::{GuestState, living};
use crate::limits::RpcLimits;
use crate::live_guest::ChargedAnswer;
use crate::origin::Hosts;

/// What all connections of a server share.
pub(crate) struct ServerContext {
    pub(crate) limits: RpcLimits,
    pub(crate) hosts: Hosts,
    pub(crate) state: watch::Receiver<GuestState>,
    /// One permit for each call that may be in the guest.
    pub(crate) calls: Arc<Semaphore>,
    /// Set where clients need an API key.
    pub(crate) authority: Option<Arc<Authority>>,
}

/// Put into the extensions of a response that must not be sent.
#[derive(Clone)]
pub(crate) struct Silent;

/// What a call has among those of all clients, and until when it may take.
struct CallBounds {
    permit: Arc<OwnedSemaphorePermit>,
    deadline: Option<Instant>,
}

/// Answers the requests of one message.
#[derive(Clone)]
pub(crate) struct Exports {
    shared: Arc<ServerContext>,
    /// Set where clients need an API key.
    caller: Option<Caller>,
    deadline: Option<Instant>,
}

impl Exports {
    /// For a message that has come just now.
    pub(crate) fn new(shared: Arc<ServerContext>, caller: Option<Caller>) -> Self {
        let timeout = shared.limits.timeout;
        Self {
            shared,
            caller,
            deadline: timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
        }
    }

    /// `noted`: what the response has besides the result.
    async fn run(
        &self,
        method: &str,
        params: Option<&RawValue>,
        noted: &mut Noted,
    ) -> Result<Box<RawValue>, ErrorObjectOwned> {
        if let Some(caller) = &self.caller {
            *noted = caller.admit(method).map_err(|(denial, refused)| {
                *noted = refused;
                match denial {
                    Denial::Scope(scope) => error::forbidden(&scope),
                    Denial::Limit { name, seconds } => error::limited(name, seconds),
                }
            })?;
        }
        // The specification keeps these names for itself.
        if method.starts_with("rpc.") || method.len() + EXPORT.len_utf8() > MAX_NAME_BYTES {
            return Err(error::no_such_method());
        }
        let args = arguments(params)?;
        let Ok(permit) = Arc::clone(&self.shared.calls).try_acquire_owned() else {
            return Err(error::busy());
        };
        let bounds = CallBounds {
            permit: Arc::new(permit),
            deadline: self.deadline,
        };
        let account = self.caller.as_ref().and_then(Caller::account);
        let call = self.shared.call(method, args, account, bounds);
        match self.deadline {
            Some(deadline) => timeout_at(deadline, call)
                .await
                .unwrap_or_else(|_| Err(error::deadline())),
            None => call.await,
        }
    }

    async fn respond(&self, request: Request<'_>) -> MethodResponse {
        let limit = self.shared.limits.response_bytes;
        let mut noted = Noted::default();
        let params = request.params.as_deref();
        let mut response = match self.run(&request.method, params, &mut noted).await {
            Ok(result) => {
                let result = ResponsePayload::success(result);
                MethodResponse::response(request.id, result, limit as usize)
            }
            Err(error) => MethodResponse::error(request.id, error),
        };
        if self.caller.is_some() {
            response.extensions_mut().insert(noted);
        }
        response
    }

    async fn respond_to_all(&self, batch: Batch<'_>) -> MethodResponse {
        let limit = self.shared.limits.response_bytes as usize;
        let mut responses = BatchResponseBuilder::new_with_limit(limit);
        let mut notified = false;
        for entry in batch {
            let mut response = match entry {
                Ok(BatchEntry::Call(request)) => self.respond(request).await,
                Ok(BatchEntry::Notification(notification)) => {
                    notified = true;
                    self.notify(&notification).await;
                    continue;
                }
                Err(error) => {
                    let (error, id) = error.into_parts();
                    MethodResponse::error(id, error)
                }
            };
            // The response to the batch as a whole has the status and the fields of none of its calls.
            response.extensions_mut().remove::<Noted>();
            if let Err(too_large) = responses.append(response) {
                return too_large;
            }
        }
        if responses.is_empty() && notified {
            return silence();
        }
        MethodResponse::from_batch(responses.finish())
    }

    /// Makes the call of a notification, whose result is reported to nobody.
    async fn notify(&self, notification: &Notification<'_>) {
        let params = notification.params.as_deref();
        let mut noted = Noted::default();
        if let Err(error) = self.run(&notification.method, params, &mut noted).await {
            tracing::debug!("a notification failed: {error}");
        }
    }
}

fn silence() -> MethodResponse {
    let mut response = MethodResponse::notification();
    response.extensions_mut().insert(Silent);
    response
}

impl RpcServiceT for Exports {
    type MethodResponse = MethodResponse;
    type NotificationResponse = MethodResponse;
    type BatchResponse = MethodResponse;

    fn call<'a>(&self, request: Request<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        let this = self.clone();
        async move { this.respond(request).await }
    }

    fn batch<'a>(&self, batch: Batch<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        let this = self.clone();
        async move { this.respond_to_all(batch).await }
    }

    fn notification<'a>(
        &self,
        notification: Notification<'a>,
    ) -> impl Future<Output = MethodResponse> + Send + 'a {
        let this = self.clone();
        async move {
            this.notify(&notification).await;
            silence()
        }
    }
}

impl ServerContext {
    /// Calls an export of the isolate that lives, or of the next one.
    async fn call(
        &self,
        method: &str,
        args: String,
        account: Option<Arc<dyn RequestAccount>>,
        bounds: CallBounds,
    ) -> Result<Box<RawValue>, ErrorObjectOwned> {
        let mut state = self.state.clone();
        loop {
            let guest = living(&mut state)
                .await
                .map_err(|end| error::ended(end.as_ref()))?;
            let handle = &guest.handle;
            let args = Payload::from_json(args.clone());
            let called = match guest.charge(account.clone()) {
                None => call_export(handle, method, args).await,
                Some(charge) => {
                    let (handle, method) = (handle.clone(), method.to_owned());
                    let holds = (charge, Arc::clone(&bounds.permit));
                    let answer = async move {
                        let answered = call_export(&handle, &method, args).await;
                        drop(holds);
                        answered
                    };
                    ChargedAnswer::new(answer, bounds.deadline).await
                }
            };
            let failed = match called {
                Ok(value) => return self.result(value),
                Err(ExportError::NoExport) => return Err(error::no_such_method()),
                Err(ExportError::Call(failed)) => failed,
            };
            return Err(match failed {
                // The guest has not seen this call: the next one may.
                CallError::Send(SendError::Ended { .. }) => continue,
                CallError::Send(SendError::Full { .. }) => error::busy(),
                CallError::Send(_) => error::internal(),
                CallError::Guest(error) => error::threw(error),
                CallError::Ended { .. } => error::ended(handle.end().as_ref()),
                CallError::TimedOut(_) => error::deadline(),
            });
        }
    }

    fn result(&self, value: Payload) -> Result<Box<RawValue>, ErrorObjectOwned> {
        let limit = self.limits.response_bytes;
        let json = plain_json(value).ok_or_else(error::not_json)?;
        if json.len() > limit as usize {
            return Err(error::too_large(limit));
        }
        // Checks that it is JSON: a worker that was taken over may send anything.
        RawValue::from_string(json).map_err(|_| error::internal())
    }
}

/// The arguments as a JSON array: positional parameters as they are, named ones as one object.
fn arguments(params: Option<&RawValue>) -> Result<String, ErrorObjectOwned> {
    match params.map(RawValue::get) {
        None => Ok("[]".to_owned()),
        Some(list) if list.starts_with('[') => Ok(list.to_owned()),
        Some(object) if object.starts_with('{') => Ok(format!("[{object}]")),
        Some(_) => Err(error::wrong_params()),
    }
}
