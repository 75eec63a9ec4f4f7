//! What all clients of a supervisor may use together, and how much of that one process and one user may use.
//!
//! Invariant: what one process uses leaves three quarters to the others, and what one user uses a quarter.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;

use super::message::{Fault, Kind};

/// Who is at the other end of a connection, as the kernel reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Peer {
    pub(super) user: u32,
    /// 0 where it is not known: all of those are one process.
    pub(super) process: i32,
}

/// One kind of thing that clients use.
#[derive(Debug)]
pub(super) struct Share {
    most: usize,
    used: Mutex<Used>,
}

#[derive(Debug, Default)]
struct Used {
    all: usize,
    of_users: HashMap<u32, usize>,
    of_processes: HashMap<Peer, usize>,
}

/// There is no more of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Exhausted {
    pub(super) limit: usize,
    /// Whose share is used up.
    pub(super) whose: &'static str,
}

impl Exhausted {
    /// The error for the client.
    pub(super) fn fault(&self, what: &str) -> Fault {
        let Self { limit, whose } = self;
        Fault::new(
            Kind::TooMany(*limit),
            format!("{whose} may have {limit} {what} at most"),
        )
    }
}

/// A part of it that is in use, until this is dropped.
#[derive(Debug)]
pub(super) struct Part {
    share: Arc<Share>,
    peer: Peer,
    count: usize,
}

impl Share {
    pub(super) fn new(most: usize) -> Arc<Self> {
        let used = Mutex::default();
        Arc::new(Self { most, used })
    }

    /// Takes a part.
    pub(super) fn take(self: &Arc<Self>, peer: Peer, count: usize) -> Result<Part, Exhausted> {
        self.add(peer, count)?;
        Ok(Part {
            share: Arc::clone(self),
            peer,
            count,
        })
    }

    /// How much is in use.
    pub(super) fn used(&self) -> usize {
        self.used.lock().all
    }

    fn add(&self, peer: Peer, count: usize) -> Result<(), Exhausted> {
        let mut used = self.used.lock();
        let of_process = used.of_processes.get(&peer).copied().unwrap_or_default();
        let of_user = (used.of_users.get(&peer.user).copied()).unwrap_or_default();
        for (before, limit, whose) in [
            (of_process, self.most / 4, "this process"),
            (of_user, self.most / 4 * 3, "this user"),
            (used.all, self.most, "all clients"),
        ] {
            if before.saturating_add(count) > limit {
                return Err(Exhausted { limit, whose });
            }
        }
        used.all += count;
        *used.of_users.entry(peer.user).or_default() += count;
        *used.of_processes.entry(peer).or_default() += count;
        Ok(())
    }

    fn subtract(&self, peer: Peer, count: usize) {
        let mut used = self.used.lock();
        used.all = used.all.saturating_sub(count);
        subtract(&mut used.of_users, peer.user, count);
        subtract(&mut used.of_processes, peer, count);
    }
}

/// What is no longer used is forgotten.
fn subtract<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: K, count: usize) {
    if let Entry::Occupied(mut entry) = counts.entry(key) {
        *entry.get_mut() = entry.get().saturating_sub(count);
        if *entry.get() == 0 {
            entry.remove();
        }
    }
}

impl Part {
    /// Makes the part larger or smaller.
    pub(super) fn resize(&mut self, count: usize) -> Result<(), Exhausted> {
        match count.checked_sub(self.count) {
            Some(more) => self.share.add(self.peer, more)?,
            None => self.share.subtract(self.peer, self.count - count),
        }
        self.count = count;
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.share.subtract(self.peer, self.count);
    }
}

/// All that clients share.
#[derive(Debug, Clone)]
pub(super) struct Shares {
    pub(super) clients: Arc<Share>,
    pub(super) sandboxes: Arc<Share>,
    pub(super) runs: Arc<Share>,
    /// Isolates that are kept ready.
    pub(super) pooled: Arc<Share>,
    /// Bytes of long lines of which the end is missing.
    pub(super) received: Arc<Share>,
    /// Bytes of messages that wait for clients to read.
    pub(super) waiting: Arc<Share>,
}

impl Shares {
    pub(super) fn new() -> Self {
        Self {
            clients: Share::new(256),
            sandboxes: Share::new(2048),
            runs: Share::new(1024),
            pooled: Share::new(1024),
            received: Share::new(256 << 20),
            waiting: Share::new(256 << 20),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Peer = Peer {
        user: 1,
        process: 1,
    };

    fn exhausted(limit: usize, whose: &'static str) -> Exhausted {
        Exhausted { limit, whose }
    }

    #[test]
    fn share_of_a_process_leaves_some_to_others() {
        let share = Share::new(100);
        let part = share.take(A, 25).unwrap();
        assert_eq!(share.take(A, 1).unwrap_err(), exhausted(25, "this process"));
        let other = Peer { process: 2, ..A };
        let _two = share.take(other, 25).unwrap();
        let _three = share.take(Peer { process: 3, ..A }, 25).unwrap();
        let four = Peer { process: 4, ..A };
        assert_eq!(share.take(four, 1).unwrap_err(), exhausted(75, "this user"));
        let root = Peer {
            user: 0,
            process: 5,
        };
        let _root = share.take(root, 25).unwrap();
        let more = Peer {
            user: 0,
            process: 6,
        };
        assert_eq!(
            share.take(more, 1).unwrap_err(),
            exhausted(100, "all clients")
        );
        drop(part);
        assert!(share.take(four, 25).is_ok());
    }

    #[test]
    fn part_grows_and_shrinks_and_leaves_nothing() {
        let share = Share::new(100);
        let mut part = share.take(A, 5).unwrap();
        part.resize(25).unwrap();
        assert!(part.resize(26).is_err());
        assert_eq!(share.used(), 25);
        part.resize(0).unwrap();
        drop(part);
        let used = share.used.lock();
        assert!(used.all == 0 && used.of_users.is_empty() && used.of_processes.is_empty());
    }
}
