//! Keeps as many mirrors as are wanted: starts, replaces, recycles, scales and ends them.
//!
//! Invariants:
//! 1. Only the reconciler starts a mirror, and it or the operator drains one.
//! 2. A mirror is drained for a successor only once the successor serves.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use stockade_supervisor::{DestroyReason, End, ResourceUsage, TerminateReason};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::mirror::{Lived, Mirror, live};
use crate::observer::{MirrorEnd, MirrorEndReason, ScaleCause};
use crate::options::Scaling;
use crate::pool::Pool;
use crate::scale::{Load, Scaler};

/// A mirror that has lived as long as this did not fail at its start.
const STABLE: Duration = Duration::from_secs(10);

/// How often mirrors are checked.
const TICK: Duration = Duration::from_secs(1);

/// What closes the WebSockets of a mirror that has a successor (1012: service restart,
/// https://www.iana.org/assignments/websocket).
pub(crate) const RESTART: u16 = 1012;
pub(crate) const REPLACED: &str = "the site is being replaced";

/// How long the ends of all mirrors are waited for.
const LAST: Duration = Duration::from_secs(5);

/// Mirrors for one request each that are being started at the same time, for each processor: more would only take longer.
const STARTS_PER_PROCESSOR: usize = 2;

pub(crate) struct Reconciler {
    pool: Arc<Pool>,
    lives: JoinSet<Lived>,
    /// The mirrors' numbers by their tasks.
    numbers: HashMap<Id, (u32, AbortHandle)>,
    backoff: Backoff,
    not_before: Option<Instant>,
    scaler: Option<Scaler>,
    /// Mirrors for one request each that may be starting at the same time.
    most_starting: usize,
    tick: Duration,
    last_tick: Instant,
    cpu_before: Duration,
    born: Instant,
}

impl Reconciler {
    pub(crate) fn new(pool: Arc<Pool>) -> Self {
        let (wanted, scaler, tick) = match &pool.options.scaling {
            Scaling::Auto(_) if pool.is_fresh() => (1, None, TICK),
            Scaling::Fixed(count) => ((*count).max(1), None, TICK),
            Scaling::Auto(auto) => (
                auto.initial.clamp(auto.min, auto.max.max(auto.min)),
                Some(Scaler::new(auto.clone())),
                auto.tick.clamp(Duration::from_millis(10), TICK),
            ),
        };
        pool.wanted.store(wanted, Ordering::Relaxed);
        let now = Instant::now();
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self {
            most_starting: processors * STARTS_PER_PROCESSOR,
            pool,
            lives: JoinSet::new(),
            numbers: HashMap::new(),
            backoff: Backoff::default(),
            not_before: None,
            scaler,
            tick,
            last_tick: now,
            cpu_before: Duration::ZERO,
            born: now,
        }
    }

    /// Keeps the mirrors until `stop`, then ends them all.
    pub(crate) async fn keep(mut self, stop: CancellationToken) {
        loop {
            self.reconcile();
            let nap = self.nap();
            tokio::select! {
                () = stop.cancelled() => break,
                Some(done) = self.lives.join_next_with_id() => self.over(done),
                () = self.pool.wake.notified() => {}
                () = sleep(nap) => {}
            }
            if self.last_tick.elapsed() >= self.tick {
                self.look();
            }
        }
        self.end_all().await;
    }

    fn wanted(&self) -> usize {
        self.pool.wanted.load(Ordering::Relaxed)
    }

    fn want(&self, number: usize, cause: ScaleCause) {
        let before = self.pool.wanted.swap(number, Ordering::Relaxed);
        if before != number {
            self.pool.observer.scaled(before, number, cause);
        }
    }

    /// How long no check is needed; `None` until something happens.
    fn nap(&self) -> Option<Duration> {
        let retry = self
            .not_before
            .map(|at| at.saturating_duration_since(Instant::now()));
        let looks = !self.lives.is_empty();
        let tick = looks.then(|| self.tick.saturating_sub(self.last_tick.elapsed()));
        match (retry, tick) {
            (Some(retry), Some(tick)) => Some(retry.min(tick)),
            (retry, tick) => retry.or(tick),
        }
    }

    /// Starts what is missing, drains what is too many, ends what is done.
    fn reconcile(&mut self) {
        let now = Instant::now();
        if self.not_before.is_some_and(|at| now >= at) {
            self.not_before = None;
        }
        if self.pool.is_fresh() {
            return self.reconcile_fresh();
        }
        if self.wanted() == 0 && self.pool.queue.length() > 0 {
            self.want(1, ScaleCause::FirstRequest);
        }
        let wanted = self.wanted();
        let mirrors = self.pool.mirrors();
        let (draining, open): (Vec<_>, Vec<_>) =
            mirrors.into_iter().partition(|mirror| mirror.is_draining());
        let (mut retiring, mut active): (Vec<_>, Vec<_>) = open
            .into_iter()
            .filter(|mirror| mirror.handle.end().is_none())
            .partition(|mirror| mirror.retiring().is_some());
        // One at a time is replaced: the others count as if they stayed.
        let have = active.len() + self.pool.starting() + retiring.len().saturating_sub(1);
        if have < wanted && self.not_before.is_none() {
            for _ in have..wanted {
                self.start();
            }
        }
        let within = self.pool.options.limits.drain;
        let mut surplus = (active.len() + retiring.len()).saturating_sub(wanted);
        while surplus > 0
            && let Some(mirror) = retiring.pop()
        {
            let reason = mirror.retiring().unwrap_or(MirrorEndReason::ScaledDown);
            mirror.drain(reason, within);
            end_if_done(&mirror);
            surplus -= 1;
        }
        active.sort_by_key(|mirror| (mirror.in_flight(), u32::MAX - mirror.number));
        for mirror in active.iter().take(surplus) {
            mirror.drain(MirrorEndReason::ScaledDown, within);
            end_if_done(mirror);
        }
        for mirror in &draining {
            end_if_done(mirror);
        }
    }

    /// As [`Reconciler::reconcile`], where each mirror is for one request: ends those that have answered it, and starts one
    /// for each request that waits and those that are kept ready. This runs when an answer was given, a mirror is
    /// ready or a request waits in vain, and not when one takes a mirror that was ready: what is missing then is
    /// started after the answer and does not compete with it.
    fn reconcile_fresh(&mut self) {
        let mirrors = self.pool.mirrors();
        let (used, unused): (Vec<_>, Vec<_>) =
            mirrors.iter().partition(|mirror| mirror.is_draining());
        // What is done, and what has become too old before it was used.
        for mirror in used {
            if mirror.has_served() {
                mirror.end(mirror.retiring().unwrap_or(MirrorEndReason::Served));
            } else if mirror.is_drain_over() {
                end_if_done(mirror);
            }
        }
        let mut ready = Vec::new();
        for mirror in unused {
            match mirror.retiring() {
                Some(reason) => mirror.end_unused(reason),
                None if mirror.handle.end().is_none() => ready.push(mirror),
                None => {}
            }
        }
        // One for each request that waits, and those that are kept ready, as far as there is room.
        let wanted = self.wanted() + self.pool.queue.length();
        for mirror in ready.iter().skip(wanted) {
            mirror.end_unused(MirrorEndReason::ScaledDown);
        }
        let most = self.pool.options.limits.concurrency.max(self.wanted());
        let starting = self.pool.starting();
        let missing = (wanted.saturating_sub(ready.len() + starting))
            .min(most.saturating_sub(mirrors.len() + starting))
            .min(self.most_starting.saturating_sub(starting));
        if self.not_before.is_none() {
            for _ in 0..missing {
                self.start();
            }
        }
    }

    fn start(&mut self) {
        let number = self.pool.begin_start();
        let task = self.lives.spawn(live(Arc::clone(&self.pool), number));
        self.numbers.insert(task.id(), (number, task));
    }

    /// A mirror's life is over.
    fn over(&mut self, done: Result<(Id, Lived), JoinError>) {
        let (id, lived) = match done {
            Ok((id, lived)) => (id, Ok(lived)),
            Err(error) => (error.id(), Err(error)),
        };
        let number = self.numbers.remove(&id).map_or(u32::MAX, |entry| entry.0);
        match lived.unwrap_or_else(|error| self.broken_down(number, &error)) {
            Lived::NeverReady(why) => {
                let wait = self.hold_off();
                self.pool.start_failed(number, why, wait);
                if self.scales_to_zero() && self.pool.mirrors().is_empty() {
                    // The next request tries again.
                    self.want(0, ScaleCause::Idle);
                }
            }
            // One that a request ended has nothing to do with how mirrors start.
            Lived::Ready { served: 1.., .. } if self.pool.is_fresh() => self.settle(),
            Lived::Ready {
                age,
                unexpected: true,
                ..
            } => {
                if age >= STABLE {
                    self.settle();
                } else {
                    self.hold_off();
                }
            }
            Lived::Ready { .. } => {}
        }
    }

    /// A mirror's task panicked, which is an error of Stockade's own: it costs that mirror and no more.
    fn broken_down(&self, number: u32, error: &JoinError) -> Lived {
        let why = format!("an error of Stockade's own ended it: {error}");
        tracing::error!(instance = %self.pool.options.name, mirror = number, "{why}");
        let mirrors = self.pool.mirrors();
        let Some(mirror) = mirrors.iter().find(|mirror| mirror.number == number) else {
            return Lived::NeverReady(why);
        };
        self.give_up(
            mirror,
            MirrorEndReason::Terminated(TerminateReason::Crashed),
        );
        self.pool.observer.ended(&MirrorEnd {
            mirror: number,
            reason: MirrorEndReason::Terminated(TerminateReason::Crashed),
            detail: why,
            usage: ResourceUsage::default(),
            requests: mirror.served(),
            in_flight: 0,
            age: mirror.age(),
        });
        Lived::Ready {
            age: mirror.age(),
            served: mirror.served(),
            unexpected: true,
        }
    }

    /// Ends a mirror whose events nobody receives any more.
    fn give_up(&self, mirror: &Arc<Mirror>, reason: MirrorEndReason) {
        mirror.end(reason);
        mirror.close(&End::Destroyed(DestroyReason::Requested));
        self.pool.leave(mirror, mirror.handle.stats().cpu);
    }

    fn scales_to_zero(&self) -> bool {
        matches!(&self.pool.options.scaling, Scaling::Auto(auto) if auto.min == 0)
    }

    /// Waits longer with each failure.
    fn hold_off(&mut self) -> Duration {
        let wait = self.backoff.next();
        self.pool.crashes.fetch_add(1, Ordering::Relaxed);
        self.not_before = Some(Instant::now() + wait);
        wait
    }

    /// All is well.
    fn settle(&mut self) {
        self.backoff.reset();
        self.pool.crashes.store(0, Ordering::Relaxed);
    }

    /// Checks every mirror and the load of all.
    fn look(&mut self) {
        let now = Instant::now();
        let elapsed = now.saturating_duration_since(self.last_tick);
        self.last_tick = now;
        let mirrors = self.pool.mirrors();
        for mirror in &mirrors {
            mirror.look(now);
        }
        if mirrors
            .iter()
            .any(|mirror| mirror.is_open() && mirror.age() >= STABLE)
        {
            self.settle();
        }
        self.scale(now, elapsed, &mirrors);
    }

    fn scale(&mut self, now: Instant, elapsed: Duration, mirrors: &[Arc<Mirror>]) {
        let idle = self.idle(mirrors);
        let Some(scaler) = &mut self.scaler else {
            return;
        };
        let cpu = self.pool.stats().cpu;
        let used = cpu.saturating_sub(self.cpu_before);
        self.cpu_before = cpu;
        let load = Load {
            ready: mirrors.iter().filter(|mirror| mirror.is_open()).count(),
            requests: self.pool.in_flight() + self.pool.queue.length(),
            cpu_percent: used.as_secs_f64() * 100.0 / elapsed.as_secs_f64().max(0.001),
            idle,
        };
        let wanted = self.pool.wanted.load(Ordering::Relaxed);
        let (number, cause) = scaler.look(now.saturating_duration_since(self.born), load, wanted);
        self.want(number, cause);
    }

    /// For how long nothing has been asked of the mirrors. Open WebSockets and promises are work, too.
    fn idle(&self, mirrors: &[Arc<Mirror>]) -> Duration {
        if mirrors.iter().all(|mirror| mirror.is_at_rest()) {
            self.pool.idle_for()
        } else {
            Duration::ZERO
        }
    }

    async fn end_all(mut self) {
        self.pool.queue.refuse(&crate::error::FetchError::Draining);
        let ready: Vec<u32> = self.pool.mirrors().iter().map(|m| m.number).collect();
        for (number, task) in self.numbers.values() {
            if !ready.contains(number) {
                task.abort();
            }
        }
        for mirror in self.pool.mirrors() {
            mirror.end(MirrorEndReason::Drained);
        }
        let all = async {
            while self.lives.join_next().await.is_some() {
                // One that was ready just as its task was to be aborted.
                for mirror in self.pool.mirrors() {
                    mirror.end(MirrorEndReason::Drained);
                }
            }
        };
        let _ = tokio::time::timeout(LAST, all).await;
        for mirror in self.pool.mirrors() {
            self.give_up(&mirror, MirrorEndReason::Drained);
        }
    }
}

fn end_if_done(mirror: &Mirror) {
    let reason = mirror.retiring().unwrap_or(MirrorEndReason::ScaledDown);
    if mirror.is_at_rest() {
        mirror.end(reason);
    } else if mirror.is_drain_over() {
        mirror.close_sockets(RESTART, REPLACED);
        mirror.end(reason);
    }
}

async fn sleep(nap: Option<Duration>) {
    match nap {
        Some(nap) => tokio::time::sleep(nap).await,
        None => std::future::pending().await,
    }
}
