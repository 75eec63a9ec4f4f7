//! Reports of the server's state to the service manager, by systemd's protocol (`Type=notify-reload`, `WatchdogSec`).
//!
//! Without a service manager all of this does nothing.

use sd_notify::NotifyState;

/// The server accepts connections. `status` is what `systemctl status` shows.
pub(super) fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// A reload begins; [`ready`] ends it, whatever came of it.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "the clock cannot be read"),
    }
}

/// The server accepts no more and lets requests end.
pub(super) fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// Reports that the server still runs its tasks, twice in each interval of the service manager's watchdog. Never ends
/// where there is a watchdog.
pub(super) async fn report_life() {
    let Some(interval) = sd_notify::watchdog_enabled() else {
        return;
    };
    let mut ticks = tokio::time::interval(interval / 2);
    loop {
        ticks.tick().await;
        send(&[NotifyState::Watchdog]);
    }
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager cannot be reached");
    }
}
