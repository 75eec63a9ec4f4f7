//! Bounds on what an upstream server sends unexpected: a server that sends requests and reads no answers is disconnected, and
//! one that sends many messages is read slowly.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use rmcp::model::JsonRpcMessage;
use rmcp::service::{RoleClient, RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use stockade_limits::RateLimiter;

use crate::bounds::{UNEXPECTED_BURST, UNEXPECTED_PER_SECOND, UPSTREAM_REQUESTS};

/// A transport that ends when more than [`UPSTREAM_REQUESTS`] requests of the other side wait for an answer, and that reads
/// [`UNEXPECTED_PER_SECOND`] messages other than answers to its requests.
pub(super) struct Bounded<T> {
    inner: T,
    /// Requests of the other side that wait for an answer.
    waiting: Arc<AtomicUsize>,
    /// Requests of this side that wait for an answer.
    asked: usize,
    unexpected: RateLimiter,
    /// When the next message is read.
    next: Option<tokio::time::Instant>,
}

impl<T> Bounded<T> {
    pub(super) fn new(inner: T) -> Self {
        Self {
            inner,
            waiting: Arc::default(),
            asked: 0,
            unexpected: RateLimiter::new(UNEXPECTED_PER_SECOND, UNEXPECTED_BURST),
            next: None,
        }
    }
}

impl<T: Transport<RoleClient>> Transport<RoleClient> for Bounded<T> {
    type Error = T::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        if matches!(item, JsonRpcMessage::Request(_)) {
            self.asked = self.asked.saturating_add(1);
        }
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
        // Before a message is taken: it would be lost if this is not awaited to its end.
        if let Some(next) = self.next {
            tokio::time::sleep_until(next).await;
            self.next = None;
        }
        let message = self.inner.receive().await?;
        let is_answer = matches!(
            message,
            JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_)
        );
        if is_answer && self.asked > 0 {
            self.asked -= 1;
        } else {
            let wait = self.unexpected.take(1, Instant::now());
            if !wait.is_zero() {
                self.next = Some(tokio::time::Instant::now() + wait);
            }
        }
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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::FutureExt;

    use super::*;

    /// Sends the same message without end.
    struct Endless(&'static str);

    impl Transport<RoleClient> for Endless {
        type Error = Infallible;

        fn send(
            &mut self,
            _item: TxJsonRpcMessage<RoleClient>,
        ) -> impl Future<Output = Result<(), Infallible>> + Send + 'static {
            std::future::ready(Ok(()))
        }

        async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
            serde_json::from_str(self.0).ok()
        }

        async fn close(&mut self) -> Result<(), Infallible> {
            Ok(())
        }
    }

    const CHANGED: &str = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;
    const ANSWER: &str = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
    const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

    /// How many messages are read without a wait, at most `most`.
    fn read(bounded: &mut Bounded<Endless>, most: usize) -> usize {
        (0..most)
            .take_while(|_| bounded.receive().now_or_never().flatten().is_some())
            .count()
    }

    #[tokio::test]
    async fn server_that_floods_is_read_slowly_and_answers_are_not() {
        let at_once = UNEXPECTED_PER_SECOND.get() * UNEXPECTED_BURST.as_secs();
        let at_once = usize::try_from(at_once).unwrap();
        for message in [CHANGED, ANSWER] {
            let mut floods = Bounded::new(Endless(message));
            // What the machine took for this comes in addition, which is a small part.
            let taken = read(&mut floods, 10 * at_once);
            assert!((at_once..2 * at_once).contains(&taken), "{taken}");
        }
        let mut answers = Bounded::new(Endless(ANSWER));
        for _ in 0..10 * at_once {
            let request = serde_json::from_str(PING).unwrap();
            answers.send(request).await.unwrap();
        }
        assert_eq!(read(&mut answers, 10 * at_once), 10 * at_once);
    }
}
