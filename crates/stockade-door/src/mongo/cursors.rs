//! Cursors that guests have open. The server knows them by numbers, and gives every session of the grant's user what a
//! number names: this table says whose they are.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::pool::OwnerId;

/// Cursors with their collections.
pub(crate) type Open = HashMap<i64, String>;

/// The cursors of all owners of one grant.
pub(crate) struct Cursors {
    /// Cursors that an owner may have open.
    most: usize,
    owners: Mutex<HashMap<OwnerId, Owner>>,
}

#[derive(Default)]
struct Owner {
    sessions: usize,
    open: Open,
}

impl Cursors {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            owners: Mutex::default(),
        }
    }

    /// A session begins.
    pub(crate) fn enter(&self, owner: OwnerId) {
        self.owners.lock().entry(owner).or_default().sessions += 1;
    }

    /// A session has ended. The cursors that nobody can go on with then.
    pub(crate) fn leave(&self, owner: OwnerId) -> Open {
        let mut owners = self.owners.lock();
        let Some(left) = owners.get_mut(&owner) else {
            return Open::new();
        };
        left.sessions -= 1;
        match left.sessions {
            0 => owners
                .remove(&owner)
                .map(|owner| owner.open)
                .unwrap_or_default(),
            _ => Open::new(),
        }
    }

    /// How many more cursors the owner may have open; 0 for none.
    pub(crate) fn left(&self, owner: OwnerId) -> usize {
        let owners = self.owners.lock();
        let open = owners.get(&owner).map_or(0, |owner| owner.open.len());
        self.most.saturating_sub(open)
    }

    /// Whether the owner has this cursor open, on this collection.
    pub(crate) fn has(&self, owner: OwnerId, cursor: i64, collection: &str) -> bool {
        let owners = self.owners.lock();
        let open = owners.get(&owner).and_then(|owner| owner.open.get(&cursor));
        open.is_some_and(|of| of == collection)
    }

    /// The server has opened a cursor.
    pub(crate) fn opened(&self, owner: OwnerId, cursor: i64, collection: &str) {
        if let Some(owner) = self.owners.lock().get_mut(&owner) {
            owner.open.insert(cursor, collection.to_owned());
        }
    }

    /// A cursor is at its end.
    pub(crate) fn closed(&self, owner: OwnerId, cursor: i64) {
        if let Some(owner) = self.owners.lock().get_mut(&owner) {
            owner.open.remove(&cursor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursor_is_of_its_owner_and_its_collection_alone() {
        let cursors = Cursors::new(2);
        cursors.enter(1);
        cursors.enter(1);
        cursors.enter(2);
        cursors.opened(1, 77, "things");
        assert!(cursors.has(1, 77, "things"));
        assert!(!cursors.has(2, 77, "things") && !cursors.has(1, 77, "others"));
        assert_eq!((cursors.left(1), cursors.left(2)), (1, 2));
        assert!(cursors.leave(1).is_empty());
        assert_eq!(cursors.leave(1).len(), 1);
        assert!(cursors.leave(2).is_empty());
        assert!(!cursors.has(1, 77, "things"));
        assert!(cursors.owners.lock().is_empty());
    }
}
