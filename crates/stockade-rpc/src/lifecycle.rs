//! Keeps one isolate running: starts the next one when it has ended.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use stockade_supervisor::{DestroyReason, End};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::BoxError;
use crate::audit::Auditor;
use crate::guest::Guest;
use crate::live_guest::LiveGuest;

/// First wait before an isolate is started again; doubled each time.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// An isolate that has lived as long as this did not fail at its start.
const STABLE: Duration = Duration::from_secs(10);

/// How often CPU time is charged of calls that go on.
const SETTLE: Duration = Duration::from_secs(1);

/// What calls find.
#[derive(Clone)]
pub(crate) enum GuestState {
    /// One may be called.
    Ready(Arc<LiveGuest>),
    /// The next one is on its way.
    Starting,
    /// The last attempt to start one failed; another will be made.
    Failed,
    /// There will be no other.
    Over(Option<End>),
}

/// The wait before the next start.
struct Backoff(Duration);

impl Backoff {
    fn next(&mut self) -> Duration {
        let wait = self.0;
        self.0 = (self.0 * 2).min(LONGEST_WAIT);
        wait
    }
}

/// Provides one isolate after the other. Done when the isolate has ended and `once` is set; otherwise
/// never.
pub(crate) async fn keep<F, R>(
    start: F,
    mut guest: Guest,
    state: watch::Sender<GuestState>,
    once: bool,
    audit: Option<Arc<Auditor>>,
) -> Option<End>
where
    F: Fn() -> R,
    R: Future<Output = Result<Guest, BoxError>>,
{
    let mut backoff = Backoff(FIRST_WAIT);
    loop {
        let started = Instant::now();
        let live = Arc::new(LiveGuest::new(guest.handle.clone()));
        state.send_replace(GuestState::Ready(Arc::clone(&live)));
        until_ended(&mut guest, &live).await;
        let end = guest.handle.end();
        if let Some(audit) = &audit {
            audit.ended(end.as_ref());
        }
        let why = end.as_ref().map_or_else(String::new, End::to_string);
        if once {
            state.send_replace(GuestState::Over(end.clone()));
            return end;
        }
        state.send_replace(GuestState::Starting);
        if started.elapsed() >= STABLE {
            backoff = Backoff(FIRST_WAIT);
        }
        let wait = backoff.next();
        tracing::warn!(
            "the isolate ended: {why}; the next one starts in {} ms",
            wait.as_millis()
        );
        tokio::time::sleep(wait).await;
        guest = loop {
            match start().await {
                Ok(guest) => break guest,
                Err(error) => {
                    state.send_replace(GuestState::Failed);
                    let wait = backoff.next();
                    tracing::error!(
                        "the isolate does not start: {error}; the next attempt is in {} ms",
                        wait.as_millis()
                    );
                    tokio::time::sleep(wait).await;
                }
            }
        };
    }
}

/// Waits for the end of an isolate, and charges meanwhile what it uses.
async fn until_ended(guest: &mut Guest, live: &LiveGuest) {
    let mut ticks = tokio::time::interval(SETTLE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = guest.ended.as_mut() => break,
            _ = ticks.tick() => live.settle(),
        }
    }
    live.settle();
}

/// Waits for an isolate that lives. `Err` says how the last one ended, where there is no other.
pub(crate) async fn living(
    state: &mut watch::Receiver<GuestState>,
) -> Result<Arc<LiveGuest>, Option<End>> {
    let found = state
        .wait_for(|state| match state {
            GuestState::Ready(guest) => guest.handle.end().is_none(),
            GuestState::Starting => false,
            GuestState::Failed | GuestState::Over(_) => true,
        })
        .await
        .map_err(|_| Some(End::Destroyed(DestroyReason::Shutdown)))?;
    match &*found {
        GuestState::Ready(guest) => Ok(Arc::clone(guest)),
        GuestState::Over(end) => Err(end.clone()),
        GuestState::Starting | GuestState::Failed => Err(None),
    }
}
