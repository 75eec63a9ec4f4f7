//! The session manager of rmcp, whose answers are kept by `answers.rs`.

use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use rmcp::model::{ClientJsonRpcMessage, GetMeta, ServerJsonRpcMessage};
use rmcp::transport::common::server_side_http::{ServerSseMessage, SessionId};
use rmcp::transport::streamable_http_server::session::SessionManager;
use rmcp::transport::streamable_http_server::session::local::{
    LocalSessionManager, LocalSessionManagerError, SessionError,
};

use super::answers::{self, Answers};
use crate::bounds::HTTP_SESSION_END;
use crate::server::is_long_token;

/// The sessions of rmcp.
pub(super) struct Streams {
    inner: LocalSessionManager,
    answers: Arc<Answers>,
}

impl Streams {
    /// Must be called in a runtime of tokio.
    pub(super) fn new() -> Self {
        let mut inner = LocalSessionManager::default();
        inner.session_config.keep_alive = Some(HTTP_SESSION_END);
        Self {
            inner,
            answers: Answers::new(),
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
        self.answers.end(id);
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
        let request = receiver.http_request_id;
        let number = request.ok_or(SessionError::ChannelClosed(None))?;
        let reading = self.answers.begin(&session, number, receiver.inner);
        session.push_message(message, request).await?;
        Ok(reading)
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
        let Some((last, request)) = answers::parse(&last_event_id) else {
            let stream = self.inner.resume(id, last_event_id).await?;
            return Ok(stream.left_stream());
        };
        let reading = self.answers.resume(id, request, last);
        let reading = reading.ok_or(SessionError::InvalidEventId)?;
        Ok(reading.right_stream())
    }
}
