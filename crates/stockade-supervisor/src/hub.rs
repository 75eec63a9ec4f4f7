//! Where one consumer takes the events of many isolates, in turn.
//!
//! Invariant: the next turn is that of the isolate whose events have had least of the consumer's time,
//! counted from when it last had none waiting. An isolate that floods its host delays another one's event
//! by one turn of its own and by no more: how long a turn is, the consumer says.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use atomic_waker::AtomicWaker;
use parking_lot::Mutex;

use crate::event::Event;
use crate::handle::Handle;
use crate::shared::Shared;

/// Events taken from one isolate before it is the next one's turn.
const TURN: usize = 64;

/// Collects the events of the isolates that were created with it, for one consumer.
#[derive(Default)]
pub struct Hub {
    line: Mutex<Line>,
    waker: AtomicWaker,
    /// Isolates that are not idle.
    working: AtomicUsize,
}

/// Isolates with events, by the time that theirs have taken: start-time fair queuing.
#[derive(Default)]
struct Line {
    ready: BTreeMap<Place, Arc<Shared>>,
    /// Where the isolate stood whose turn it was last. One that joins stands no further ahead.
    clock: u64,
    joined: u64,
}

/// Time served, whether its events had to wait for another turn, and the order of joining.
type Place = (u64, bool, u64);

impl Line {
    fn join(&mut self, shared: Arc<Shared>, again: bool) {
        let served = shared.served.load(Ordering::SeqCst).max(self.clock);
        shared.served.store(served, Ordering::SeqCst);
        self.joined += 1;
        self.ready.insert((served, again, self.joined), shared);
    }

    fn next(&mut self) -> Option<Arc<Shared>> {
        let ((served, ..), shared) = self.ready.pop_first()?;
        self.clock = self.clock.max(served);
        Some(shared)
    }
}

impl Hub {
    /// An empty hub.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    pub(crate) fn announce(&self, shared: Arc<Shared>) {
        self.line.lock().join(shared, false);
        self.waker.wake();
    }

    /// As [`Hub::announce`], for one whose turn was too short for its events.
    pub(crate) fn announce_again(&self, shared: Arc<Shared>) {
        self.line.lock().join(shared, true);
        self.waker.wake();
    }

    pub(crate) fn work_began(&self) {
        self.working.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn work_ended(&self) {
        if self.working.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.waker.wake();
        }
    }

    /// Whether any isolate has something to do: a message to handle, code running, a timer, or an
    /// event that nobody has taken yet.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.working.load(Ordering::SeqCst) > 0 || !self.line.lock().ready.is_empty()
    }

    /// The isolate whose turn it is. Wakes the task when there is one, and when the last isolate becomes
    /// idle.
    pub fn poll_turn(&self, cx: &mut Context<'_>) -> Poll<Turn<'_>> {
        self.waker.register(cx.waker());
        match self.line.lock().next() {
            Some(shared) => Poll::Ready(Turn {
                hub: self,
                shared,
                events: None,
                took: Duration::ZERO,
            }),
            None => Poll::Pending,
        }
    }

    /// The next events of one isolate, oldest first. Wakes the task when there are more, and when the
    /// last isolate becomes idle.
    pub fn poll_events(&self, cx: &mut Context<'_>) -> Poll<(Handle, Vec<Event>)> {
        while let Poll::Ready(turn) = self.poll_turn(cx) {
            let events = turn.shared.outbox.take(TURN);
            let handle = turn.handle();
            turn.end(Duration::ZERO);
            if !events.is_empty() {
                return Poll::Ready((handle, events));
            }
        }
        Poll::Pending
    }

    /// The next turn of one isolate.
    pub async fn turn(&self) -> Turn<'_> {
        std::future::poll_fn(|cx| self.poll_turn(cx)).await
    }

    /// The next events of one isolate.
    pub async fn events(&self) -> (Handle, Vec<Event>) {
        std::future::poll_fn(|cx| self.poll_events(cx)).await
    }
}

/// One isolate's turn: its events one by one, a few of them. It ends with [`Turn::end`], or when it is dropped;
/// events that were not taken stay in the queue for the isolate's next turn.
pub struct Turn<'a> {
    hub: &'a Hub,
    shared: Arc<Shared>,
    /// Those that are not taken yet, once the first one was.
    events: Option<VecDeque<(Event, usize)>>,
    took: Duration,
}

impl Turn<'_> {
    /// Of the isolate.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle::new(Arc::clone(&self.shared))
    }

    /// The next event with its size, for [`Handle::release`] once nothing of it is kept; its place in the
    /// queue stays taken until then.
    pub fn take(&mut self) -> Option<(Event, usize)> {
        let outbox = &self.shared.outbox;
        let events = self.events.get_or_insert_with(|| outbox.pop_many(TURN));
        events.pop_front()
    }

    /// Ends the turn and charges the isolate for `took` of the consumer's time.
    pub fn end(mut self, took: Duration) {
        self.took = took;
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(events) = self.events.take().filter(|events| !events.is_empty()) {
            self.shared.outbox.put_back(events);
        }
        let took = u64::try_from(self.took.as_nanos()).unwrap_or(u64::MAX);
        let served = self.shared.served.load(Ordering::SeqCst);
        (self.shared.served).store(served.saturating_add(took), Ordering::SeqCst);
        self.shared.turn_ended(self.hub);
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use stockade_policy::IsolateOptions;
    use stockade_protocol::Payload;

    use super::*;
    use crate::supervisor::Pool;

    fn isolate(hub: &Arc<Hub>, id: u32) -> Arc<Shared> {
        let options = Arc::new(IsolateOptions::default());
        let pool = Arc::new(Pool::detached());
        let shared = Arc::new(Shared::new(id, options, pool, Arc::clone(hub), None));
        shared.listen();
        shared
    }

    fn send(shared: &Arc<Shared>) {
        let event = Event::Message {
            name: "m".to_owned(),
            data: Payload::default(),
        };
        let size = event.size();
        shared.outbox.push(event, size, |_| {}).unwrap();
        shared.announce();
    }

    /// Has one turn of one event take `ms`, and says whose it was.
    fn serve(hub: &Hub, ms: u64) -> Option<u32> {
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(mut turn) = hub.poll_turn(&mut cx) else {
            return None;
        };
        let handle = turn.handle();
        if let Some((_, size)) = turn.take() {
            handle.release(size);
        }
        turn.end(Duration::from_millis(ms));
        Some(handle.id())
    }

    #[test]
    fn hub_isolate_that_was_quiet_goes_before_those_that_flood() {
        let hub = Hub::new();
        let floods: Vec<_> = (0..8).map(|id| isolate(&hub, id)).collect();
        let quiet = isolate(&hub, 8);
        for flood in &floods {
            (0..100).for_each(|_| send(flood));
        }
        for _ in 0..50 {
            serve(&hub, 20);
        }
        send(&quiet);
        assert_eq!(serve(&hub, 1), Some(8));
    }

    #[test]
    fn hub_shares_time_and_not_events() {
        let hub = Hub::new();
        let dear = isolate(&hub, 0);
        let cheap = isolate(&hub, 1);
        (0..1000).for_each(|_| send(&dear));
        (0..1000).for_each(|_| send(&cheap));
        let turns: Vec<_> = (0..220)
            .map_while(|_| {
                let mut cx = Context::from_waker(Waker::noop());
                let Poll::Ready(turn) = hub.poll_turn(&mut cx) else {
                    return None;
                };
                let id = turn.handle().id();
                turn.end(Duration::from_millis(if id == 0 { 10 } else { 1 }));
                Some(id)
            })
            .collect();
        let of_dear = turns.iter().filter(|id| **id == 0).count();
        assert!((19..=21).contains(&of_dear), "{of_dear} of 220");
    }

    #[test]
    fn hub_isolate_that_waited_has_saved_nothing_up() {
        let hub = Hub::new();
        let busy = isolate(&hub, 0);
        let late = isolate(&hub, 1);
        (0..100).for_each(|_| send(&busy));
        (0..50).for_each(|_| assert_eq!(serve(&hub, 10), Some(0)));
        (0..100).for_each(|_| send(&late));
        let turns: Vec<_> = (0..20).map_while(|_| serve(&hub, 10)).collect();
        let of_late = turns.iter().filter(|id| **id == 1).count();
        assert!((10..=11).contains(&of_late), "{turns:?}");
    }

    #[test]
    fn turn_gives_a_bounded_number_of_events_and_keeps_their_places() {
        let hub = Hub::new();
        let flood = isolate(&hub, 0);
        (0..2 * TURN).for_each(|_| send(&flood));
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(mut turn) = hub.poll_turn(&mut cx) else {
            panic!("no turn")
        };
        let taken: Vec<_> = std::iter::from_fn(|| turn.take()).collect();
        assert_eq!(taken.len(), TURN);
        assert_eq!(flood.outbox.load().0, 2 * TURN);
        for (_, size) in taken {
            turn.handle().release(size);
        }
        assert_eq!(flood.outbox.load().0, TURN);
        turn.end(Duration::ZERO);
        assert!(hub.has_work());
        let Poll::Ready(mut turn) = hub.poll_turn(&mut cx) else {
            panic!("no turn")
        };
        let (_, size) = turn.take().unwrap();
        turn.handle().release(size);
        turn.end(Duration::ZERO);
        assert_eq!(flood.outbox.load().0, TURN - 1, "the others were put back");
        let Poll::Ready((_, events)) = hub.poll_events(&mut cx) else {
            panic!("no events")
        };
        assert_eq!(events.len(), TURN - 1);
    }

    #[test]
    fn turn_that_is_dropped_ends_and_loses_no_event() {
        let hub = Hub::new();
        let isolate = isolate(&hub, 0);
        (0..3).for_each(|_| send(&isolate));
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(mut turn) = hub.poll_turn(&mut cx) else {
            panic!("no turn")
        };
        let (_, size) = turn.take().unwrap();
        turn.handle().release(size);
        drop(turn);
        let Poll::Ready((_, events)) = hub.poll_events(&mut cx) else {
            panic!("no events")
        };
        assert_eq!(events.len(), 2);
    }
}
