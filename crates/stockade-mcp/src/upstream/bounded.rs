//! A bound on what an upstream server asks: a server that sends requests and reads no answers is disconnected.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rmcp::model::JsonRpcMessage;
use rmcp::service::{RoleClient, RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;

use crate::bounds::UPSTREAM_REQUESTS;

/// A transport that ends when more than [`UPSTREAM_REQUESTS`] requests of the other side wait for an answer.
pub(super) struct Bounded<T> {
    inner: T,
    waiting: Arc<AtomicUsize>,
}

impl<T> Bounded<T> {
    pub(super) fn new(inner: T) -> Self {
        Self {
            inner,
            waiting: Arc::default(),
        }
    }
}

impl<T: Transport<RoleClient>> Transport<RoleClient> for Bounded<T> {
    type Error = T::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        let is_answer = matches!(item, JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_));
        let waiting = Arc::clone(&self.waiting);
        let sending = self.inner.send(item);
        async move {
            let sent = sending.await;
            if is_answer {
                let _ = waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                    count.checked_sub(1)
                });
            }
            sent
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        let message = self.inner.receive().await?;
        if matches!(message, JsonRpcMessage::Request(_)) {
            let before = self.waiting.fetch_add(1, Ordering::Relaxed);
            if before >= UPSTREAM_REQUESTS {
                tracing::warn!(
                    "an upstream server has {UPSTREAM_REQUESTS} unanswered requests and is disconnected"
                );
                return None;
            }
        }
        Some(message)
    }

    fn close(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send {
        self.inner.close()
    }
}
