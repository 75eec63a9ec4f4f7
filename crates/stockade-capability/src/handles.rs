//! What guests hold open, by number: transactions, cursors, subscriptions.
//!
//! Invariants:
//! 1. A number means something only together with its owner, and is never used again.
//! 2. What an owner holds is dropped when the owner ends, and each handle at its deadlines. Dropping a value closes
//!    what it stands for.
//! 3. An owner holds at most as many handles as the limits say.

use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use stockade_protocol::GuestError;
use tokio::time::Instant;

use crate::{ErrorName, Owner};

/// Bounds of the handles of one grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandleLimits {
    /// Handles of one owner at the same time.
    pub most: usize,
    /// How long a handle may be unused.
    pub idle: Duration,
    /// How long a handle may live.
    pub life: Duration,
}

/// How many handles a grant has open. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct HandleCount(Arc<AtomicUsize>);

impl HandleCount {
    /// Handles that are open now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// The handles of one grant, of all its owners.
pub struct HandleTable<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    limits: HandleLimits,
    count: HandleCount,
    inner: Mutex<Inner<T>>,
}

struct Inner<T> {
    next: u64,
    owners: HashMap<Owner, HashMap<u64, Entry<T>>>,
    /// A task watches the deadlines. There is one at most.
    watched: bool,
}

/// A handle as the table has it.
struct Entry<T>(Arc<Held<T>>);

struct Held<T> {
    value: T,
    born: Instant,
    /// When a call last ended that used it.
    used: Mutex<Instant>,
}

/// The value of a handle, for one call. While it is there the handle is not idle, and the value is not dropped.
pub struct Lease<T>(Arc<Held<T>>);

impl<T> fmt::Debug for Lease<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").finish_non_exhaustive()
    }
}

impl<T> Deref for Lease<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T> Drop for Lease<T> {
    fn drop(&mut self) {
        *self.0.used.lock() = Instant::now();
    }
}

impl<T> Entry<T> {
    /// When it is dropped if nothing uses it before.
    fn deadline(&self, limits: &HandleLimits, now: Instant) -> Instant {
        let in_use = Arc::strong_count(&self.0) > 1;
        let used = if in_use { now } else { *self.0.used.lock() };
        (used + limits.idle).min(self.0.born + limits.life)
    }
}

impl<T: Send + Sync + 'static> HandleTable<T> {
    /// An empty table. Must be used within a tokio runtime.
    #[must_use]
    pub fn new(limits: HandleLimits, count: HandleCount) -> Self {
        Self {
            shared: Arc::new(Shared {
                limits,
                count,
                inner: Mutex::new(Inner {
                    next: 1,
                    owners: HashMap::new(),
                    watched: false,
                }),
            }),
        }
    }

    /// Keeps a value for its owner, and gives the handle's number.
    ///
    /// # Errors
    /// A `QuotaExceededError` where the owner holds as many as it may.
    pub fn insert(&self, owner: &Owner, value: T) -> Result<u64, GuestError> {
        let most = self.shared.limits.most;
        let mut inner = self.shared.inner.lock();
        let held = inner.owners.get(owner).map_or(0, HashMap::len);
        if held >= most {
            return Err(ErrorName::Quota.error(format!(
                "{most} are open already (the limit `handles`): close one first"
            )));
        }
        let number = inner.next;
        inner.next += 1;
        let now = Instant::now();
        let entry = Entry(Arc::new(Held {
            value,
            born: now,
            used: Mutex::new(now),
        }));
        inner
            .owners
            .entry(owner.clone())
            .or_default()
            .insert(number, entry);
        self.shared.count.0.fetch_add(1, Ordering::Relaxed);
        if !std::mem::replace(&mut inner.watched, true) {
            tokio::spawn(watch(Arc::downgrade(&self.shared)));
        }
        Ok(number)
    }

    /// The value of a handle.
    ///
    /// # Errors
    /// A `TypeError` where this owner has no such handle, or has it no longer.
    pub fn find(&self, owner: &Owner, number: u64) -> Result<Lease<T>, GuestError> {
        let inner = self.shared.inner.lock();
        let held = inner.owners.get(owner);
        let entry = held.and_then(|held| held.get(&number));
        let closed = "it is closed: it was ended, or was idle or open for too long";
        let entry = entry.ok_or_else(|| ErrorName::Type.error(closed))?;
        Ok(Lease(Arc::clone(&entry.0)))
    }

    /// Closes a handle and gives its value; `None` where this owner has no such handle.
    pub fn remove(&self, owner: &Owner, number: u64) -> Option<Lease<T>> {
        let mut inner = self.shared.inner.lock();
        let held = inner.owners.get_mut(owner)?;
        let entry = held.remove(&number)?;
        if held.is_empty() {
            inner.owners.remove(owner);
        }
        self.shared.count.0.fetch_sub(1, Ordering::Relaxed);
        Some(Lease(entry.0))
    }

    /// Closes all handles of an owner that has ended.
    pub fn ended(&self, owner: &Owner) {
        let held = self.shared.inner.lock().owners.remove(owner);
        if let Some(held) = held {
            self.shared.count.0.fetch_sub(held.len(), Ordering::Relaxed);
            // Values are dropped without the lock.
        }
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        let held: usize = self.inner.get_mut().owners.values().map(HashMap::len).sum();
        self.count.0.fetch_sub(held, Ordering::Relaxed);
    }
}

/// Drops handles at their deadlines. Ends when there is none left.
async fn watch<T>(shared: Weak<Shared<T>>) {
    loop {
        let next = {
            let Some(shared) = shared.upgrade() else {
                return;
            };
            let (overdue, next) = shared.overdue(Instant::now());
            shared.count.0.fetch_sub(overdue.len(), Ordering::Relaxed);
            drop(overdue);
            next
        };
        let Some(next) = next else {
            return;
        };
        tokio::time::sleep_until(next).await;
    }
}

impl<T> Shared<T> {
    /// Takes out what is past its deadline, and says when to look again; `None` when nothing is left.
    fn overdue(&self, now: Instant) -> (Vec<Entry<T>>, Option<Instant>) {
        let mut inner = self.inner.lock();
        let (mut overdue, mut next) = (Vec::new(), None);
        for held in inner.owners.values_mut() {
            let due = held.extract_if(|_, entry| entry.deadline(&self.limits, now) <= now);
            overdue.extend(due.map(|(_, entry)| entry));
            for entry in held.values() {
                let deadline = entry.deadline(&self.limits, now);
                next = Some(next.map_or(deadline, |next: Instant| next.min(deadline)));
            }
        }
        inner.owners.retain(|_, held| !held.is_empty());
        inner.watched = next.is_some();
        (overdue, next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(mirror: u32) -> Owner {
        Owner {
            instance: "shop".into(),
            start: 1,
            mirror,
        }
    }

    fn table(count: &HandleCount) -> HandleTable<Arc<()>> {
        let limits = HandleLimits {
            most: 2,
            idle: Duration::from_secs(10),
            life: Duration::from_secs(25),
        };
        HandleTable::new(limits, count.clone())
    }

    #[tokio::test]
    async fn handle_is_found_by_its_owner_alone() {
        let table = table(&HandleCount::default());
        let number = table.insert(&owner(1), Arc::default()).unwrap();
        assert!(table.find(&owner(1), number).is_ok());
        let restarted = Owner {
            start: 2,
            ..owner(1)
        };
        for other in [owner(2), restarted] {
            assert_eq!(table.find(&other, number).unwrap_err().name, "TypeError");
            assert!(table.remove(&other, number).is_none());
            table.ended(&other);
        }
        assert!(table.remove(&owner(1), number).is_some());
        assert!(table.find(&owner(1), number).is_err());
        assert_ne!(table.insert(&owner(1), Arc::default()).unwrap(), number);
    }

    #[tokio::test]
    async fn handles_beyond_the_limit_of_one_owner_are_refused() {
        let count = HandleCount::default();
        let table = table(&count);
        for _ in 0..2 {
            table.insert(&owner(1), Arc::default()).unwrap();
        }
        let error = table.insert(&owner(1), Arc::default()).unwrap_err();
        assert_eq!(error.name, "QuotaExceededError");
        table.insert(&owner(2), Arc::default()).unwrap();
        assert_eq!(count.open(), 3);
        drop(table);
        assert_eq!(count.open(), 0);
    }

    #[tokio::test]
    async fn handles_of_an_owner_that_ended_are_dropped() {
        let count = HandleCount::default();
        let table = table(&count);
        let (kept, gone) = (Arc::new(()), Arc::new(()));
        table.insert(&owner(1), Arc::clone(&gone)).unwrap();
        let number = table.insert(&owner(2), Arc::clone(&kept)).unwrap();
        table.ended(&owner(1));
        assert_eq!((Arc::strong_count(&gone), Arc::strong_count(&kept)), (1, 2));
        assert!(table.find(&owner(2), number).is_ok());
        assert_eq!(count.open(), 1);
    }

    #[tokio::test]
    async fn handle_is_dropped_when_it_is_idle_and_at_the_end_of_its_life() {
        let table = table(&HandleCount::default());
        let now = Instant::now();
        let after = |seconds| {
            table
                .shared
                .overdue(now + Duration::from_secs(seconds))
                .0
                .len()
        };
        table.insert(&owner(1), Arc::default()).unwrap();
        let number = table.insert(&owner(1), Arc::default()).unwrap();
        let in_use = table.find(&owner(1), number).unwrap();
        assert_eq!(after(9), 0);
        assert_eq!(after(11), 1);
        assert_eq!(after(24), 0, "one in use is not idle");
        assert_eq!(after(26), 1, "its life is over");
        assert!(table.find(&owner(1), number).is_err());
        drop(in_use);
    }

    #[tokio::test]
    async fn handle_that_nobody_uses_is_dropped_by_itself() {
        struct Reports(Option<tokio::sync::oneshot::Sender<()>>);
        impl Drop for Reports {
            fn drop(&mut self) {
                let _ = self.0.take().map(|sender| sender.send(()));
            }
        }
        let count = HandleCount::default();
        let idle = Duration::from_millis(5);
        let limits = HandleLimits {
            most: 1,
            idle,
            life: Duration::from_secs(60),
        };
        let table = HandleTable::new(limits, count.clone());
        for _ in 0..2 {
            let (sender, dropped) = tokio::sync::oneshot::channel();
            table.insert(&owner(1), Reports(Some(sender))).unwrap();
            dropped.await.unwrap();
            assert_eq!(count.open(), 0);
        }
    }
}
