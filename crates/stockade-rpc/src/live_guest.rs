//! An isolate that may be called, and for whose calls it uses CPU time.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use stockade_http::{Charges, Metered, OnBehalf, RequestAccount};
use stockade_protocol::Payload;
use stockade_supervisor::IsolateHandle;
use tokio::runtime::Handle;
use tokio::time::timeout_at;

use crate::export::ExportError;

/// How long a call without a deadline is charged that nobody waits for any more.
const LEFT_BEHIND: Duration = Duration::from_secs(30);

/// An isolate, from its start to its end.
pub(crate) struct LiveGuest {
    pub(crate) handle: IsolateHandle,
    since: Instant,
    charges: Charges,
}

/// A call that the guest works on. Dropped, it is charged no more.
pub(crate) struct ChargedCall {
    guest: Arc<LiveGuest>,
    number: u64,
}

type Answer = Result<Payload, ExportError>;

/// The answer to a call that is charged. A client that leaves does not stop the guest: dropped before the answer, the call goes
/// on without the client until its deadline, and so does what it holds.
pub(crate) struct ChargedAnswer {
    answer: Option<Pin<Box<dyn Future<Output = Answer> + Send>>>,
    deadline: Option<tokio::time::Instant>,
}

impl ChargedAnswer {
    /// `answer` holds what the call has as long as the guest works on it.
    pub(crate) fn new(
        answer: impl Future<Output = Answer> + Send + 'static,
        deadline: Option<tokio::time::Instant>,
    ) -> Self {
        Self {
            answer: Some(Box::pin(answer)),
            deadline,
        }
    }
}

impl Future for ChargedAnswer {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let Some(answer) = &mut self.answer else {
            return Poll::Pending;
        };
        let answered = ready!(answer.as_mut().poll(cx));
        self.answer = None;
        Poll::Ready(answered)
    }
}

impl Drop for ChargedAnswer {
    fn drop(&mut self) {
        let (Some(answer), Ok(runtime)) = (self.answer.take(), Handle::try_current()) else {
            return;
        };
        let later = || tokio::time::Instant::now() + LEFT_BEHIND;
        let until = self.deadline.unwrap_or_else(later);
        runtime.spawn(async move {
            // Nobody takes it.
            let _ = timeout_at(until, answer).await;
        });
    }
}

impl Metered for LiveGuest {
    fn cpu(&self) -> Duration {
        self.handle.cpu()
    }

    fn memory(&self) -> u64 {
        self.handle.memory()
    }

    fn since(&self) -> Instant {
        self.since
    }
}

impl LiveGuest {
    pub(crate) fn new(handle: IsolateHandle) -> Self {
        Self {
            handle,
            since: Instant::now(),
            charges: Charges::default(),
        }
    }

    /// A call begins, whose CPU time is charged to this account. `None` where no call has had one.
    pub(crate) fn charge(
        self: &Arc<Self>,
        account: Option<Arc<dyn RequestAccount>>,
    ) -> Option<ChargedCall> {
        if account.is_none() && !self.charges.is_limited() {
            return None;
        }
        let client = OnBehalf { key: None, account };
        Some(ChargedCall {
            number: self.charges.begin(client, &**self),
            guest: Arc::clone(self),
        })
    }

    /// Charges what was used since the last time.
    pub(crate) fn settle(&self) {
        if self.charges.is_limited() {
            self.charges.settle(self);
        }
    }
}

impl Drop for ChargedCall {
    fn drop(&mut self) {
        self.guest.charges.end(self.number, &*self.guest);
    }
}
