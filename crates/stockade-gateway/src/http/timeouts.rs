//! How long a connection waits for its client: written by the tasks that read, write and answer, and checked by the
//! one that ends connections that wait too long.
//!
//! All of it is advisory: a value that is read a moment too late ends a connection a moment too late.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::limits::Limits;

/// Bytes a second at which a client must take a response where `body_rate` sets no rate. Without any the gateway
/// could not limit it: how much of a piece the client has taken is not visible.
const LEAST_RATE: u64 = 500;

/// What one connection waits for, and since when.
#[derive(Debug)]
pub(crate) struct ConnectionTimers {
    opened: Instant,
    /// Requests run side by side. Otherwise the rest of a head is not read while a request runs.
    multiplexed: bool,
    /// Requests whose response is not complete.
    running: AtomicUsize,
    /// Since when no request runs.
    idle: Moment,
    /// Since when a head is being read.
    head: Moment,
    writes: WriteProgress,
    /// Response bodies whose last piece has not been taken.
    responses: Mutex<Vec<Arc<ResponseProgress>>>,
}

/// Why a connection must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectionTimeout {
    /// No request came.
    Idle,
    /// A head came too slowly.
    Head,
    /// The client takes nothing.
    Stalled,
}

/// A moment in the life of a connection, or none: milliseconds since it was opened, plus one.
#[derive(Debug, Default)]
struct Moment(AtomicU64);

impl Moment {
    fn set(&self, millis: u64) {
        self.0.store(millis + 1, Relaxed);
    }

    fn clear(&self) {
        self.0.store(0, Relaxed);
    }

    fn get(&self) -> Option<u64> {
        self.0.load(Relaxed).checked_sub(1)
    }
}

/// What the socket has taken.
#[derive(Debug, Default)]
struct WriteProgress {
    bytes: AtomicU64,
    /// Since when the socket takes no more.
    blocked: Moment,
    /// What it had taken by then.
    bytes_when_blocked: AtomicU64,
}

/// A piece of a response body on its way.
#[derive(Debug, Default)]
pub(crate) struct ResponseProgress {
    since: Moment,
    bytes: AtomicU64,
}

impl ConnectionTimers {
    pub(crate) fn new(multiplexed: bool) -> Self {
        let timers = Self {
            opened: Instant::now(),
            multiplexed,
            running: AtomicUsize::new(0),
            idle: Moment::default(),
            head: Moment::default(),
            writes: WriteProgress::default(),
            responses: Mutex::default(),
        };
        timers.idle.set(0);
        timers
    }

    fn now(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }

    pub(crate) fn request_begins(&self) {
        self.running.fetch_add(1, Relaxed);
        self.idle.clear();
    }

    pub(crate) fn request_ends(&self) {
        if self.running.fetch_sub(1, Relaxed) == 1 {
            let now = self.now();
            self.idle.set(now);
            // The rest of a head that was sent ahead is read from now on.
            if self.head.get().is_some() {
                self.head.set(now);
            }
        }
    }

    /// Says after each read whether a head has begun and not ended.
    pub(crate) fn reading_head(&self, reading: bool) {
        match (reading, self.head.get()) {
            (true, None) => self.head.set(self.now()),
            (false, Some(_)) => self.head.clear(),
            _ => {}
        }
    }

    pub(crate) fn wrote(&self, bytes: usize) {
        self.writes.bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// Bytes that the socket has taken.
    pub(crate) fn written(&self) -> u64 {
        self.writes.bytes.load(Relaxed)
    }

    /// The socket takes no more bytes for now.
    pub(crate) fn write_blocked(&self) {
        if self.writes.blocked.get().is_none() {
            let written = self.written();
            self.writes.bytes_when_blocked.store(written, Relaxed);
            self.writes.blocked.set(self.now());
        }
    }

    /// The socket has taken everything.
    pub(crate) fn write_flushed(&self) {
        if self.writes.blocked.get().is_some() {
            self.writes.blocked.clear();
        }
    }

    /// Follows a response body until [`ConnectionTimers::response_ends`].
    pub(crate) fn response_begins(&self) -> Arc<ResponseProgress> {
        let progress = Arc::<ResponseProgress>::default();
        self.responses.lock().push(Arc::clone(&progress));
        progress
    }

    pub(crate) fn response_ends(&self, progress: &Arc<ResponseProgress>) {
        let mut all = self.responses.lock();
        if let Some(index) = all.iter().position(|other| Arc::ptr_eq(other, progress)) {
            all.swap_remove(index);
        }
    }

    /// A piece of a response body waits for the client to take it.
    pub(crate) fn piece_waits(&self, progress: &ResponseProgress, bytes: usize) {
        progress.bytes.store(bytes as u64, Relaxed);
        progress.since.set(self.now());
    }

    /// The next piece of a response body is asked for: the last one was taken.
    pub(crate) fn piece_taken(&self, progress: &ResponseProgress) {
        progress.since.clear();
    }

    /// Returns when to check again, or what the connection has waited for too long.
    pub(crate) fn check(&self, limits: &Limits) -> Result<Duration, ConnectionTimeout> {
        let now = self.now();
        let mut next = limits
            .header_timeout
            .min(limits.idle_timeout)
            .min(limits.stall_timeout);
        let mut check = |since: Option<u64>, allowed: Duration, timeout| {
            let Some(since) = since else { return Ok(()) };
            let waited = Duration::from_millis(now.saturating_sub(since));
            if waited >= allowed {
                return Err(timeout);
            }
            next = next.min(allowed - waited);
            Ok(())
        };
        // Requests: heads that are read now, then the time without any request.
        let reads = self.multiplexed || self.running.load(Relaxed) == 0;
        let head = self.head.get().filter(|_| reads);
        check(head, limits.header_timeout, ConnectionTimeout::Head)?;
        check(
            self.idle.get(),
            limits.idle_timeout,
            ConnectionTimeout::Idle,
        )?;
        // The socket: a client that takes bytes at the rate is given another interval.
        let blocked = self.writes.blocked.get();
        if let Err(stalled) = check(blocked, limits.stall_timeout, ConnectionTimeout::Stalled) {
            let written = self.written();
            let taken = written - self.writes.bytes_when_blocked.load(Relaxed);
            if taken == 0 || taken < limits.body_rate * limits.stall_timeout.as_secs().max(1) {
                return Err(stalled);
            }
            self.writes.bytes_when_blocked.store(written, Relaxed);
            self.writes.blocked.set(now);
        }
        // Each response body: on HTTP/2 one may wait for its own window while the socket takes others.
        let rate = match limits.body_rate {
            0 => LEAST_RATE,
            rate => rate,
        };
        for response in self.responses.lock().iter() {
            let allowed = Duration::from_secs(response.bytes.load(Relaxed) / rate);
            let since = response.since.get();
            check(
                since,
                limits.stall_timeout + allowed,
                ConnectionTimeout::Stalled,
            )?;
        }
        // A millisecond is the unit of all moments: checking earlier would find nothing new.
        Ok(next.max(Duration::from_millis(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn limits() -> Limits {
        Limits {
            idle_timeout: 10 * SECOND,
            header_timeout: 5 * SECOND,
            stall_timeout: 4 * SECOND,
            body_rate: 100,
            ..Limits::default()
        }
    }

    /// Lets time pass for a connection: it was opened earlier by as much.
    fn pass(timers: &mut ConnectionTimers, time: Duration) {
        timers.opened -= time;
    }

    #[test]
    fn connection_without_request_is_idle() {
        let mut timers = ConnectionTimers::new(false);
        assert!(timers.check(&limits()).is_ok_and(|next| next <= 4 * SECOND));
        pass(&mut timers, 10 * SECOND);
        assert_eq!(timers.check(&limits()), Err(ConnectionTimeout::Idle));
        timers.request_begins();
        assert!(timers.check(&limits()).is_ok());
        timers.request_ends();
        assert!(timers.check(&limits()).is_ok());
    }

    #[test]
    fn head_that_comes_slowly_times_out_while_it_is_read() {
        let mut timers = ConnectionTimers::new(true);
        timers.request_begins();
        timers.reading_head(true);
        pass(&mut timers, 5 * SECOND);
        assert_eq!(timers.check(&limits()), Err(ConnectionTimeout::Head));
        timers.reading_head(false);
        assert!(timers.check(&limits()).is_ok());
    }

    #[test]
    fn head_that_was_sent_ahead_is_timed_from_the_end_of_the_request_before() {
        let mut timers = ConnectionTimers::new(false);
        timers.request_begins();
        timers.reading_head(true);
        pass(&mut timers, 5 * SECOND);
        assert!(timers.check(&limits()).is_ok());
        timers.request_ends();
        assert!(timers.check(&limits()).is_ok());
        pass(&mut timers, 5 * SECOND);
        assert_eq!(timers.check(&limits()), Err(ConnectionTimeout::Head));
    }

    #[test]
    fn client_that_takes_bytes_at_the_rate_is_not_stalled() {
        let mut timers = ConnectionTimers::new(false);
        timers.request_begins();
        timers.write_blocked();
        timers.wrote(400);
        pass(&mut timers, 4 * SECOND);
        assert!(timers.check(&limits()).is_ok());
        timers.wrote(399);
        pass(&mut timers, 4 * SECOND);
        assert_eq!(timers.check(&limits()), Err(ConnectionTimeout::Stalled));
        timers.write_flushed();
        assert!(timers.check(&limits()).is_ok());
    }

    #[test]
    fn piece_of_a_response_may_wait_as_long_as_its_size_allows() {
        let mut timers = ConnectionTimers::new(true);
        timers.request_begins();
        let response = timers.response_begins();
        timers.piece_waits(&response, 1000);
        pass(&mut timers, 13 * SECOND);
        assert!(timers.check(&limits()).is_ok());
        pass(&mut timers, SECOND);
        assert_eq!(timers.check(&limits()), Err(ConnectionTimeout::Stalled));
        timers.piece_taken(&response);
        assert!(timers.check(&limits()).is_ok());
        timers.piece_waits(&response, 1);
        timers.response_ends(&response);
        pass(&mut timers, 20 * SECOND);
        assert!(timers.check(&limits()).is_ok());
    }
}
