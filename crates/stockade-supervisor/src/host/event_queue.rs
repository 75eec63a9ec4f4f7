//! Where one consumer takes the events of many isolates, in turn.
//!
//! Invariant: the next turn is that of the isolate whose events have had least of the consumer's time,
//! counted from when it last had none waiting. An isolate that floods its host delays another one's event
//! by one turn of its own and by no more: the consumer says how long a turn is.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::event::Event;
use super::fair_queue::FairQueue;
use super::handle::IsolateHandle;
use super::side::HostIsolate;

/// Events taken from one isolate before it is the next one's turn.
const TURN: usize = 64;

/// Collects the events of the isolates that were created with it, for one consumer.
pub struct EventQueue {
    pub(crate) isolates: Arc<FairQueue<Arc<HostIsolate>>>,
}

impl EventQueue {
    /// An empty queue.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            isolates: Arc::new(FairQueue::new()),
        })
    }

    /// Whether any isolate has something to do: a message to handle, code running, a timer, or an
    /// event that nobody has taken yet.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.isolates.has_work()
    }

    /// The isolate whose turn it is. Wakes the task when there is one, and when the last isolate becomes
    /// idle.
    pub fn poll_turn(&self, cx: &mut Context<'_>) -> Poll<Turn> {
        match self.isolates.next(cx.waker()) {
            Some(isolate) => Poll::Ready(Turn {
                isolate,
                events: None,
                took: Duration::ZERO,
            }),
            None => Poll::Pending,
        }
    }

    /// The next events of one isolate, oldest first. Wakes the task when there are more, and when the
    /// last isolate becomes idle.
    pub fn poll_events(&self, cx: &mut Context<'_>) -> Poll<(IsolateHandle, Vec<Event>)> {
        while let Poll::Ready(turn) = self.poll_turn(cx) {
            let events = turn.isolate.uplink.events.take(TURN);
            let handle = turn.handle();
            turn.end(Duration::ZERO);
            if !events.is_empty() {
                return Poll::Ready((handle, events));
            }
        }
        Poll::Pending
    }

    /// The next turn of one isolate.
    pub async fn turn(&self) -> Turn {
        std::future::poll_fn(|cx| self.poll_turn(cx)).await
    }

    /// The next events of one isolate.
    pub async fn events(&self) -> (IsolateHandle, Vec<Event>) {
        std::future::poll_fn(|cx| self.poll_events(cx)).await
    }
}

impl Drop for EventQueue {
    fn drop(&mut self) {
        self.isolates.close();
    }
}

/// One isolate's turn: its events one by one, a few of them. It ends with [`Turn::end`], or when it is dropped;
/// events that were not taken stay in the queue for the isolate's next turn.
pub struct Turn {
    isolate: Arc<HostIsolate>,
    /// The events that are not taken yet, once the first one was.
    events: Option<VecDeque<(Event, usize)>>,
    took: Duration,
}

impl Turn {
    /// The handle of the isolate whose turn it is.
    #[must_use]
    pub fn handle(&self) -> IsolateHandle {
        IsolateHandle::new(Arc::clone(&self.isolate))
    }

    /// The next event with its size, for [`IsolateHandle::release`] once nothing of it is kept; its place in the
    /// queue stays taken until then.
    pub fn take(&mut self) -> Option<(Event, usize)> {
        let queue = &self.isolate.uplink.events;
        let events = self.events.get_or_insert_with(|| queue.pop_many(TURN));
        events.pop_front()
    }

    /// Ends the turn and charges the isolate for `took` of the consumer's time.
    pub fn end(mut self, took: Duration) {
        self.took = took;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let host = &self.isolate.uplink;
        if let Some(events) = self.events.take().filter(|events| !events.is_empty()) {
            host.events.put_back(events);
        }
        host.turn_ended(self.took);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::task::Waker;

    use stockade_protocol::{GuestError, Payload};

    use super::*;
    use crate::end::DestroyReason;
    use crate::host::registry::Registry;
    use crate::host::side::HostSide;

    fn isolate(queue: &EventQueue, id: u32) -> Arc<HostIsolate> {
        let registry = Arc::new(Registry::new());
        let isolate = HostSide::isolate(id, Arc::default(), registry, Arc::clone(&queue.isolates));
        isolate.uplink.listen();
        isolate
    }

    fn send(isolate: &HostIsolate) {
        let event = Event::Message {
            name: "m".to_owned(),
            data: Payload::default(),
        };
        let size = event.size();
        let host = &isolate.uplink;
        host.events.push(event, size, |_| {}).unwrap();
        host.announce();
    }

    #[test]
    fn isolate_whose_events_nobody_took_is_freed_with_the_queue() {
        let queue = EventQueue::new();
        let (before, after) = (isolate(&queue, 1), isolate(&queue, 2));
        send(&before);
        let freed = [&before, &after].map(Arc::downgrade);
        drop(before);
        drop(queue);
        send(&after);
        drop(after);
        assert!(freed.iter().all(|isolate| isolate.upgrade().is_none()));
    }

    /// Has one turn of one event take `ms`, and says whose it was.
    fn serve(queue: &EventQueue, ms: u64) -> Option<u32> {
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(mut turn) = queue.poll_turn(&mut cx) else {
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
    fn event_queue_isolate_that_was_quiet_goes_before_those_that_flood() {
        let queue = EventQueue::new();
        let floods: Vec<_> = (0..8).map(|id| isolate(&queue, id)).collect();
        let quiet = isolate(&queue, 8);
        for flood in &floods {
            (0..100).for_each(|_| send(flood));
        }
        for _ in 0..50 {
            serve(&queue, 20);
        }
        send(&quiet);
        assert_eq!(serve(&queue, 1), Some(8));
    }

    #[test]
    fn event_queue_shares_time_and_not_events() {
        let queue = EventQueue::new();
        let dear = isolate(&queue, 0);
        let cheap = isolate(&queue, 1);
        (0..1000).for_each(|_| send(&dear));
        (0..1000).for_each(|_| send(&cheap));
        let turns: Vec<_> = (0..220)
            .map_while(|_| {
                let mut cx = Context::from_waker(Waker::noop());
                let Poll::Ready(turn) = queue.poll_turn(&mut cx) else {
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
    fn event_queue_isolate_that_waited_has_saved_nothing_up() {
        let queue = EventQueue::new();
        let busy = isolate(&queue, 0);
        let late = isolate(&queue, 1);
        (0..100).for_each(|_| send(&busy));
        (0..50).for_each(|_| assert_eq!(serve(&queue, 10), Some(0)));
        (0..100).for_each(|_| send(&late));
        let turns: Vec<_> = (0..20).map_while(|_| serve(&queue, 10)).collect();
        let of_late = turns.iter().filter(|id| **id == 1).count();
        assert!((10..=11).contains(&of_late), "{turns:?}");
    }

    #[test]
    fn turn_gives_a_bounded_number_of_events_and_keeps_their_places() {
        let queue = EventQueue::new();
        let flood = isolate(&queue, 0);
        (0..2 * TURN).for_each(|_| send(&flood));
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(mut turn) = queue.poll_turn(&mut cx) else {
            panic!("no turn")
        };
        let taken: Vec<_> = std::iter::from_fn(|| turn.take()).collect();
        assert_eq!(taken.len(), TURN);
        assert_eq!(flood.uplink.events.load().0, 2 * TURN);
        for (_, size) in taken {
            turn.handle().release(size);
        }
        assert_eq!(flood.uplink.events.load().0, TURN);
        turn.end(Duration::ZERO);
        assert!(queue.has_work());
        let Poll::Ready(mut turn) = queue.poll_turn(&mut cx) else {
            panic!("no turn")
        };
        let (_, size) = turn.take().unwrap();
        turn.handle().release(size);
        turn.end(Duration::ZERO);
        assert_eq!(
            flood.uplink.events.load().0,
            TURN - 1,
            "the others were put back"
        );
        let Poll::Ready((_, events)) = queue.poll_events(&mut cx) else {
            panic!("no events")
        };
        assert_eq!(events.len(), TURN - 1);
    }

    #[test]
    fn events_taken_waits_for_the_turns_with_all_that_waited() {
        let queue = EventQueue::new();
        let isolate = isolate(&queue, 0);
        let handle = IsolateHandle::new(Arc::clone(&isolate));
        let mut cx = Context::from_waker(Waker::noop());
        let mut nothing = std::pin::pin!(handle.events_taken());
        assert!(nothing.as_mut().poll(&mut cx).is_ready());
        (0..2).for_each(|_| send(&isolate));
        let mut both = std::pin::pin!(handle.events_taken());
        assert!(both.as_mut().poll(&mut cx).is_pending());
        send(&isolate);
        serve(&queue, 1);
        assert!(both.as_mut().poll(&mut cx).is_pending(), "one of two");
        let Poll::Ready(mut turn) = queue.poll_turn(&mut cx) else {
            panic!("no turn")
        };
        let (_, size) = turn.take().unwrap();
        handle.release(size);
        assert!(both.as_mut().poll(&mut cx).is_pending(), "not handled yet");
        turn.end(Duration::ZERO);
        assert!(both.as_mut().poll(&mut cx).is_ready());
        assert_eq!(isolate.uplink.events.load().0, 1);
    }

    #[test]
    fn turn_that_is_dropped_ends_and_loses_no_event() {
        let queue = EventQueue::new();
        let isolate = isolate(&queue, 0);
        (0..3).for_each(|_| send(&isolate));
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(mut turn) = queue.poll_turn(&mut cx) else {
            panic!("no turn")
        };
        let (_, size) = turn.take().unwrap();
        turn.handle().release(size);
        drop(turn);
        let Poll::Ready((_, events)) = queue.poll_events(&mut cx) else {
            panic!("no events")
        };
        assert_eq!(events.len(), 2);
    }

    #[test]
    fn worker_busy_after_the_end_leaves_no_work() {
        let queue = EventQueue::new();
        let isolate = isolate(&queue, 0);
        isolate.destroy(DestroyReason::Requested);
        // A frame that was on its way says that the isolate is not idle.
        isolate.uplink.set_work(true);
        let mut cx = Context::from_waker(Waker::noop());
        while queue.poll_events(&mut cx).is_ready() {}
        assert!(!queue.has_work());
    }

    #[test]
    fn answer_leaves_no_moment_without_a_request_and_without_work() {
        let queue = EventQueue::new();
        let isolate = isolate(&queue, 0);
        let handle = IsolateHandle::new(Arc::clone(&isolate));
        let inbox = &isolate.state.inbox;
        for id in 0..300 {
            isolate.state.open_request(id, 1).unwrap();
            inbox.set_idle(true, |idle| isolate.uplink.set_work(!idle));
            assert!(!queue.has_work());
            std::thread::scope(|scope| {
                scope.spawn(|| handle.answer(id, Err(GuestError::new("no"))).unwrap());
                while handle.stats().requests > 0 {}
                assert!(queue.has_work(), "request {id}");
            });
            let (_, size) = inbox.pop().unwrap();
            inbox.release(size);
        }
    }
}
