//! Who is subscribed to what.
//!
//! Invariants:
//! 1. A reader ends with its owner, with the stream that a guest was given, or with the grant.
//! 2. A reader that falls behind is ended, with an error: it holds up nobody, and misses nothing without a word.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use http_body::Frame;
use parking_lot::Mutex;
use stockade_capability::{HandleCount, HandleLimits, HandleTable, Owner};
use stockade_http::BoxError;
use stockade_protocol::GuestError;
use tokio::sync::{Notify, mpsc};

/// States that wait for one reader.
const MOST_WAITING: usize = 64;

/// Longer than any process runs: a subscription has no deadline.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// What is subscribed to: the method, and its parameters, which are texts.
pub(super) type Topic = (String, Vec<String>);

/// The subscriptions of all owners.
pub(super) struct Subscriptions {
    handles: HandleTable<Place>,
    topics: Arc<Topics>,
    next: AtomicU64,
}

#[derive(Default)]
struct Topics {
    read: Mutex<HashMap<Topic, Vec<Reader>>>,
    /// A topic has lost its last reader.
    left: Notify,
}

/// A reader of a topic. Its stream ends when the sender is dropped, which is here alone.
struct Reader {
    number: u64,
    lines: mpsc::Sender<Bytes>,
    /// Whether it got a state already: the one that its subscription began with is not newer.
    begun: Arc<AtomicBool>,
    behind: Arc<AtomicBool>,
}

/// A reader's place among those of its topic, which is free when this is dropped.
struct Place {
    topics: Weak<Topics>,
    topic: Topic,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(topics) = self.topics.upgrade() else {
            return;
        };
        let mut read = topics.read.lock();
        if let Some(readers) = read.get_mut(&self.topic) {
            readers.retain(|reader| reader.number != self.number);
            if readers.is_empty() {
                read.remove(&self.topic);
                topics.left.notify_one();
            }
        }
    }
}

impl Subscriptions {
    /// At most `most` for each owner.
    pub(super) fn new(most: usize, count: HandleCount) -> Arc<Self> {
        let limits = HandleLimits {
            most,
            idle: FOREVER,
            life: FOREVER,
        };
        Arc::new(Self {
            handles: HandleTable::new(limits, count),
            topics: Arc::default(),
            next: AtomicU64::new(0),
        })
    }

    /// A new reader of a topic.
    ///
    /// # Errors
    /// Where its owner has as many as it may.
    pub(super) fn add(
        self: &Arc<Self>,
        owner: &Owner,
        topic: Topic,
    ) -> Result<Subscription, GuestError> {
        let (lines, receiver) = mpsc::channel(MOST_WAITING);
        let behind = Arc::new(AtomicBool::new(false));
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let place = Place {
            topics: Arc::downgrade(&self.topics),
            topic: topic.clone(),
            number,
        };
        let sender = lines.downgrade();
        let begun = Arc::new(AtomicBool::new(false));
        let reader = Reader {
            number,
            lines,
            begun: Arc::clone(&begun),
            behind: Arc::clone(&behind),
        };
        self.topics
            .read
            .lock()
            .entry(topic)
            .or_default()
            .push(reader);
        let handle = self.handles.insert(owner, place)?;
        Ok(Subscription {
            receiver,
            behind,
            first: First { sender, begun },
            of: Arc::downgrade(self),
            owner: owner.clone(),
            handle,
        })
    }

    /// The topics that somebody reads.
    pub(super) fn topics(&self) -> Vec<Topic> {
        self.topics.read.lock().keys().cloned().collect()
    }

    /// Whether somebody reads this topic.
    pub(super) fn is_read(&self, topic: &Topic) -> bool {
        self.topics.read.lock().contains_key(topic)
    }

    /// Waits until a topic has lost its last reader since the last time. For one waiter.
    pub(super) async fn left(&self) {
        self.topics.left.notified().await;
    }

    /// Gives a new state to all readers of a topic; false where there are none.
    pub(super) fn publish(&self, topic: &Topic, state: &str) -> bool {
        let mut topics = self.topics.read.lock();
        let Some(readers) = topics.get_mut(topic) else {
            return false;
        };
        let line = line(state);
        readers.retain(|reader| {
            reader.begun.store(true, Ordering::Relaxed);
            let fits = reader.lines.try_send(line.clone()).is_ok();
            reader.behind.fetch_or(!fits, Ordering::Relaxed);
            fits
        });
        true
    }

    /// Ends all that an owner has.
    pub(super) fn ended(&self, owner: &Owner) {
        self.handles.ended(owner);
    }
}

fn line(state: &str) -> Bytes {
    let mut line = String::with_capacity(state.len() + 1);
    line.push_str(state);
    line.push('\n');
    line.into()
}

/// The states of one topic, as lines, for one reader.
pub(super) struct Subscription {
    receiver: mpsc::Receiver<Bytes>,
    behind: Arc<AtomicBool>,
    first: First,
    of: Weak<Subscriptions>,
    owner: Owner,
    handle: u64,
}

impl Subscription {
    /// Where a state goes that is for this reader alone.
    pub(super) fn first(&self) -> First {
        self.first.clone()
    }
}

/// Gives one reader the state that its subscription began with.
#[derive(Clone)]
pub(super) struct First {
    sender: mpsc::WeakSender<Bytes>,
    begun: Arc<AtomicBool>,
}

impl First {
    pub(super) fn give(&self, state: &str) {
        if let Some(sender) = self.sender.upgrade()
            && !self.begun.swap(true, Ordering::Relaxed)
        {
            // A reader that is behind already is ended by what comes next.
            let _ = sender.try_send(line(state));
        }
    }
}

impl Stream for Subscription {
    type Item = Result<Frame<Bytes>, BoxError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.receiver.poll_recv(context).map(|line| match line {
            Some(line) => Some(Ok(Frame::data(line))),
            None if self.behind.swap(false, Ordering::Relaxed) => {
                Some(Err("the reader of the subscription fell behind".into()))
            }
            None => None,
        })
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(of) = self.of.upgrade() {
            drop(of.handles.remove(&self.owner, self.handle));
        }
    }
}
