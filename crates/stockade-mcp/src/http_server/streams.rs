//! The session manager of rmcp with a bound on what it keeps.
//!
//! A client whose connection broke can read the rest of an answer (`Last-Event-ID`). rmcp keeps each answer for this for a
//! while, however many there are. Here an answer is dropped when its stream was read to its end, and of the streams that
//! broke the last [`BROKEN_STREAMS`] are kept.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::Stream;
use parking_lot::Mutex;
use rmcp::model::{ClientJsonRpcMessage, GetMeta, ServerJsonRpcMessage};
use rmcp::transport::common::server_side_http::{ServerSseMessage, SessionId};
use rmcp::transport::streamable_http_server::session::SessionManager;
use rmcp::transport::streamable_http_server::session::local::{
    LocalSessionHandle, LocalSessionManager, LocalSessionManagerError,
};
use tokio::sync::mpsc::Receiver;

use crate::bounds::{BROKEN_STREAMS, HTTP_SESSION_END};
use crate::server::is_long_token;

/// The sessions of rmcp.
pub(super) struct Streams {
    inner: LocalSessionManager,
    /// The streams that broke, the oldest first.
    broken: Arc<Mutex<VecDeque<Answer>>>,
}

/// An answer that rmcp keeps.
#[derive(Clone)]
struct Answer {
    session: LocalSessionHandle,
    request: u64,
}

/// The stream of an answer.
struct Delivered {
    events: Receiver<ServerSseMessage>,
    /// `None` when it was read to its end.
    answer: Option<Answer>,
    broken: Arc<Mutex<VecDeque<Answer>>>,
}

impl Streams {
    pub(super) fn new() -> Self {
        let mut inner = LocalSessionManager::default();
        inner.session_config.keep_alive = Some(HTTP_SESSION_END);
        Self {
            inner,
            broken: Arc::default(),
        }
    }
}

impl Answer {
    fn forget(self) {
        tokio::spawn(async move {
            // A session that has ended keeps nothing.
            let _ = self.session.close_request_wise_channel(self.request).await;
        });
    }
}

impl Stream for Delivered {
    type Item = ServerSseMessage;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let event = self.events.poll_recv(cx);
        if matches!(event, Poll::Ready(None))
            && let Some(answer) = self.answer.take()
        {
            answer.forget();
        }
        event
    }
}

impl Drop for Delivered {
    fn drop(&mut self) {
        let Some(answer) = self.answer.take() else {
            return;
        };
        let mut broken = self.broken.lock();
        broken.push_back(answer);
        let oldest = (broken.len() > BROKEN_STREAMS).then(|| broken.pop_front());
        drop(broken);
        if let Some(oldest) = oldest.flatten() {
            oldest.forget();
        }
    }
}

/// Takes a progress token that is too long out of a request: of an answer that is forgotten, rmcp keeps the token with its
/// session.
fn bound_token(message: &mut ClientJsonRpcMessage) {
    let ClientJsonRpcMessage::Request(request) = message else {
        return;
    };
    let token = request.request.get_meta().get_progress_token();
    if token.is_some_and(|token| is_long_token(&token)) {
        request.request.get_meta_mut().0.0.remove("progressToken");
    }
}

impl SessionManager for Streams {
    type Error = LocalSessionManagerError;
    type Transport = <LocalSessionManager as SessionManager>::Transport;

    async fn create_session(&self) -> Result<(SessionId, Self::Transport), Self::Error> {
        self.inner.create_session().await
    }

    async fn initialize_session(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<ServerJsonRpcMessage, Self::Error> {
        self.inner.initialize_session(id, message).await
    }

    async fn has_session(&self, id: &SessionId) -> Result<bool, Self::Error> {
        self.inner.has_session(id).await
    }

    async fn close_session(&self, id: &SessionId) -> Result<(), Self::Error> {
        self.inner.close_session(id).await
    }

    async fn create_stream(
        &self,
        id: &SessionId,
        mut message: ClientJsonRpcMessage,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        bound_token(&mut message);
        let session = self.inner.sessions.read().await.get(id).cloned();
        let session =
            session.ok_or_else(|| LocalSessionManagerError::SessionNotFound(id.clone()))?;
        let receiver = session.establish_request_wise_channel().await?;
        let answer = receiver.http_request_id.map(|request| Answer {
            session: session.clone(),
            request,
        });
        let delivered = Delivered {
            events: receiver.inner,
            answer,
            broken: Arc::clone(&self.broken),
        };
        session
            .push_message(message, receiver.http_request_id)
            .await?;
        Ok(delivered)
    }

    async fn accept_message(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<(), Self::Error> {
        self.inner.accept_message(id, message).await
    }

    async fn create_standalone_stream(
        &self,
        id: &SessionId,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        self.inner.create_standalone_stream(id).await
    }

    async fn resume(
        &self,
        id: &SessionId,
        last_event_id: String,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        self.inner.resume(id, last_event_id).await
    }
}
