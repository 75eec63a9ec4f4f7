//! The wait for a reply of a guest.

use std::future::Future;
use std::pin::Pin;
use std::task::Poll;

use stockade_supervisor::Event;

use crate::Handle;
use crate::isolate::{Isolate, Next};

/// How a wait ended.
#[derive(Debug)]
pub enum Waited<T> {
    /// With the reply. Events from before it were taken.
    Reply(T),
    /// The guest has nothing left to do, and the reply is missing: it never comes.
    NeverComes,
}

/// Takes the events of a guest.
pub trait TakeEvents: Send {
    /// Why no more are taken.
    type Error;

    /// Takes an event of the isolate with this handle.
    ///
    /// # Errors
    /// Ends the wait.
    fn take(
        &mut self,
        handle: Handle,
        event: Event,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// Waits for a reply of the isolate's guest and has its events taken meanwhile.
///
/// # Errors
/// What taking events fails with.
pub async fn reply<T, E: TakeEvents>(
    isolate: &mut Isolate,
    reply: impl Future<Output = T>,
    events: &mut E,
) -> Result<Waited<T>, E::Error> {
    tokio::pin!(reply);
    let result = loop {
        tokio::select! {
            biased;
            result = &mut reply => break result,
            next = isolate.next_or_idle() => match next {
                Next::Event(event) => events.take(isolate.handle(), event).await?,
                Next::Idle => match settled(reply.as_mut()).await {
                    Some(result) => break result,
                    None => return Ok(Waited::NeverComes),
                },
                Next::Ended => return Ok(Waited::Reply(reply.await)),
            },
        }
    };
    // What was said before it.
    while let Some(event) = isolate.try_next() {
        events.take(isolate.handle(), event).await?;
    }
    Ok(Waited::Reply(result))
}

/// What a future gives, if it has it by now. An isolate replies before it is idle, so that after it was seen idle a reply
/// that is still missing never comes; one that came between two looks has come.
pub async fn settled<T>(mut future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    std::future::poll_fn(|cx| {
        Poll::Ready(match future.as_mut().poll(cx) {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        })
    })
    .await
}
