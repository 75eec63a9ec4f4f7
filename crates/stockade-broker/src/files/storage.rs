//! What lies in a granted folder, counted against its limits.
//!
//! Counted once when the folder is granted, then kept up to date by every write and delete of guests.
//! All grants of one folder share a ledger. What others change meanwhile is not seen before the next
//! count.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use cap_std::fs::{Dir, DirEntry, MetadataExt as _};
use parking_lot::Mutex;

use super::path::DRAFT_PREFIX;

/// Bytes that a file or folder costs besides its contents: names and empty files fill disks too.
const EACH: u64 = 512;
/// Folders within folders that are counted; deeper ones are not the guests'.
const MOST_COUNTED_DEPTH: usize = 128;

/// A file that is written takes less time than this between two pieces.
const LEFT_OVER: Duration = Duration::from_secs(3600);

/// What a folder holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
}

/// What a folder holds, shared by its grants.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    held: Mutex<Held>,
    /// Held while a name or a size changes, so that what a file takes is counted once.
    pub(crate) change: Mutex<()>,
}

/// A limit that a write would pass.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl Ledger {
    pub(crate) fn held(&self) -> Held {
        *self.held.lock()
    }

    /// Takes room for one more file or folder.
    pub(crate) fn take_entry(
        self: &Arc<Self>,
        most_bytes: Option<u64>,
        most_entries: u64,
    ) -> Result<Room, Full> {
        let mut held = self.held.lock();
        if held.entries >= most_entries {
            return Err(Full);
        }
        let bytes = held.bytes.saturating_add(EACH);
        if most_bytes.is_some_and(|most| bytes > most) {
            return Err(Full);
        }
        *held = Held {
            bytes,
            entries: held.entries + 1,
        };
        Ok(Room {
            ledger: self.clone(),
            bytes: EACH,
            most_bytes,
        })
    }

    /// Takes room for bytes by which a file grows.
    pub(crate) fn take(&self, bytes: u64, most_bytes: Option<u64>) -> Result<(), Full> {
        let mut held = self.held.lock();
        let total = held.bytes.saturating_add(bytes);
        if bytes > 0 && most_bytes.is_some_and(|most| total > most) {
            return Err(Full);
        }
        held.bytes = total;
        Ok(())
    }

    /// Gives back bytes of a file that became shorter.
    pub(crate) fn release(&self, bytes: u64) {
        let mut held = self.held.lock();
        held.bytes = held.bytes.saturating_sub(bytes);
    }

    /// Gives back what a file or folder of `size` bytes took.
    pub(crate) fn give_back(&self, size: u64) {
        let mut held = self.held.lock();
        held.bytes = held.bytes.saturating_sub(size.saturating_add(EACH));
        held.entries = held.entries.saturating_sub(1);
    }
}

/// Room taken for a file that is being written. Given back unless it is kept.
#[derive(Debug)]
pub(crate) struct Room {
    ledger: Arc<Ledger>,
    bytes: u64,
    most_bytes: Option<u64>,
}

impl Room {
    /// Takes more, before it is written.
    pub(crate) fn grow(&mut self, bytes: u64) -> Result<(), Full> {
        self.ledger.take(bytes, self.most_bytes)?;
        self.bytes += bytes;
        Ok(())
    }

    /// The file stays.
    pub(crate) fn keep(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.ledger.give_back(self.bytes - EACH);
        }
    }
}

/// The ledgers of all granted folders, by device and inode.
#[derive(Debug, Default)]
pub(crate) struct Ledgers(Mutex<HashMap<(u64, u64), Weak<Ledger>>>);

impl Ledgers {
    /// The ledger of a folder, counted if there was none. Files that were being written when a
    /// process ended are deleted.
    pub(crate) fn of(&self, root: &Dir) -> io::Result<Arc<Ledger>> {
        let metadata = root.dir_metadata()?;
        let key = (metadata.dev(), metadata.ino());
        // Counting under the lock: two grants of one folder must not count it twice.
        let mut ledgers = self.0.lock();
        ledgers.retain(|_, ledger| ledger.strong_count() > 0);
        if let Some(ledger) = ledgers.get(&key).and_then(Weak::upgrade) {
            return Ok(ledger);
        }
        let ledger = Arc::new(Ledger {
            held: Mutex::new(count(root)?),
            change: Mutex::default(),
        });
        ledgers.insert(key, Arc::downgrade(&ledger));
        Ok(ledger)
    }
}

/// Counts everything below `root`, following no links.
fn count(root: &Dir) -> io::Result<Held> {
    let mut held = Held::default();
    let mut left = vec![(root.try_clone()?, 0)];
    while let Some((folder, depth)) = left.pop() {
        for entry in folder.entries()? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_file() && is_left_over(&entry) {
                entry.remove_file()?;
                continue;
            }
            let size = if kind.is_file() {
                entry.metadata()?.len()
            } else {
                0
            };
            held.bytes = held.bytes.saturating_add(size).saturating_add(EACH);
            held.entries += 1;
            if kind.is_dir() && depth < MOST_COUNTED_DEPTH {
                left.push((entry.open_dir()?, depth + 1));
            }
        }
    }
    Ok(held)
}

/// Whether a file was being written when a process ended. Another process may be writing one now: only
/// old ones are meant.
fn is_left_over(entry: &DirEntry) -> bool {
    let name = entry.file_name();
    let is_draft = name
        .to_str()
        .is_some_and(|name| name.starts_with(DRAFT_PREFIX));
    let modified = entry.metadata().and_then(|metadata| metadata.modified());
    let age = modified.ok().and_then(|at| at.into_std().elapsed().ok());
    is_draft && age.is_some_and(|age| age >= LEFT_OVER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_that_is_not_kept_is_given_back() {
        let ledger = Arc::new(Ledger::default());
        let mut room = ledger.take_entry(Some(2000), 10).unwrap();
        room.grow(1000).unwrap();
        assert_eq!(room.grow(1000), Err(Full));
        assert_eq!(
            ledger.held(),
            Held {
                bytes: 1512,
                entries: 1
            }
        );
        drop(room);
        assert_eq!(ledger.held(), Held::default());
    }

    #[test]
    fn room_that_is_kept_stays_taken_until_it_is_deleted() {
        let ledger = Arc::new(Ledger::default());
        let mut room = ledger.take_entry(None, 1).unwrap();
        room.grow(100).unwrap();
        room.keep();
        assert_eq!(
            ledger.held(),
            Held {
                bytes: 612,
                entries: 1
            }
        );
        assert!(ledger.take_entry(None, 1).is_err());
        ledger.give_back(100);
        assert_eq!(ledger.held(), Held::default());
    }

    #[test]
    fn folder_is_counted_without_following_links_and_cleared_of_remains() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("root");
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::fs::write(root.join("a/b/file"), [0; 100]).unwrap();
        let old = std::fs::File::create(root.join("a/.stockade-write-1")).unwrap();
        old.set_len(5000).unwrap();
        old.set_modified(std::time::SystemTime::now() - LEFT_OVER)
            .unwrap();
        std::fs::write(root.join("a/.stockade-write-2"), [0; 50]).unwrap();
        std::fs::write(outer.path().join("outside"), [0; 9000]).unwrap();
        std::os::unix::fs::symlink("../outside", root.join("link")).unwrap();
        std::os::unix::fs::symlink("..", root.join("up")).unwrap();
        let dir = Dir::open_ambient_dir(&root, cap_std::ambient_authority()).unwrap();
        let ledgers = Ledgers::default();
        let ledger = ledgers.of(&dir).unwrap();
        assert_eq!(
            ledger.held(),
            Held {
                bytes: 150 + 6 * EACH,
                entries: 6
            }
        );
        assert!(!root.join("a/.stockade-write-1").exists());
        assert!(Arc::ptr_eq(&ledger, &ledgers.of(&dir).unwrap()));
    }
}
