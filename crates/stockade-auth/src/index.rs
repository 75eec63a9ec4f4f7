//! All keys that may be used, in memory, by their hashes.
//!
//! One text of a key takes 48 bytes, its share of the table (some 8 bytes), and a name, an owner, scopes,
//! limits and metadata.
//! The table is by a keyed hash, whose order and collisions nobody without the pepper can choose.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use aws_lc_rs::constant_time;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry as TableEntry;

use crate::hash::KeyHash;
use crate::limits::KeyLimits;
use crate::scope::Scopes;
use crate::store::{ActiveSecret, KeyId};

/// A key that was found valid.
#[derive(Debug, Clone)]
pub struct Granted {
    pub(crate) hash: KeyHash,
    /// Which key it is.
    pub id: KeyId,
    /// Seconds since 1970; `u32::MAX`: never.
    pub(crate) expires: u32,
    /// The version of the keys in memory at which it was found.
    pub(crate) version: u64,
    /// Name, owner, scopes, limits and metadata, a line break between each two: none of the first four can have one.
    text: Box<str>,
    /// Where the first four end.
    ends: [usize; 4],
    limits: KeyLimits,
    /// What sites get to know of it, once that was needed.
    shown: OnceLock<Arc<str>>,
}

impl Granted {
    fn new(hash: KeyHash, id: KeyId, expires: u32, text: Box<str>) -> Self {
        let mut ends = [text.len(); 4];
        let breaks = text.match_indices('\n').map(|(at, _)| at);
        ends.iter_mut().zip(breaks).for_each(|(end, at)| *end = at);
        let granted = Self {
            hash,
            id,
            expires,
            version: 0,
            text,
            ends,
            limits: KeyLimits::default(),
            shown: OnceLock::new(),
        };
        Self {
            limits: KeyLimits::of_text(granted.field(3)),
            ..granted
        }
    }

    /// Whether it has not expired.
    pub(crate) fn lasts(&self, now: u64) -> bool {
        self.expires == u32::MAX || u64::from(self.expires) > now
    }

    /// When it ends, as was known when it was found valid: seconds since 1970, `u32::MAX`: never.
    #[must_use]
    pub fn expires(&self) -> u32 {
        self.expires
    }

    /// [`Self::to_json`], made once.
    #[must_use]
    pub fn json(&self) -> Arc<str> {
        Arc::clone(self.shown.get_or_init(|| self.to_json().into()))
    }

    fn field(&self, number: usize) -> &str {
        let before = number
            .checked_sub(1)
            .and_then(|before| self.ends.get(before));
        let start = before.map_or(0, |end| end + 1);
        let end = self.ends.get(number).copied();
        let end = end.unwrap_or(self.text.len());
        self.text.get(start..end).unwrap_or_default()
    }

    /// The name of the key.
    #[must_use]
    pub fn name(&self) -> &str {
        self.field(0)
    }

    /// Whose it is.
    #[must_use]
    pub fn owner(&self) -> &str {
        self.field(1)
    }

    /// What it may do.
    #[must_use]
    pub fn scopes(&self) -> Scopes<'_> {
        Scopes(self.field(2))
    }

    /// How many requests it may send.
    #[must_use]
    pub fn limits(&self) -> KeyLimits {
        self.limits
    }

    /// What the site gets to know of it, as JSON: `{"id","name","scopes","metadata"}`.
    #[must_use]
    pub fn to_json(&self) -> String {
        let name = serde_json::to_string(self.name()).unwrap_or_default();
        let scopes: Vec<String> = self
            .scopes()
            .iter()
            .map(|scope| format!("\"{scope}\""))
            .collect();
        let metadata = match self.field(4) {
            "" => "{}",
            metadata => metadata,
        };
        let (id, scopes) = (self.id, scopes.join(","));
        format!("{{\"id\":\"{id}\",\"name\":{name},\"scopes\":[{scopes}],\"metadata\":{metadata}}}")
    }
}

/// One text of a key.
struct Entry {
    hash: [u8; 16],
    id: u64,
    text: Box<str>,
    expires: u32,
    /// Used since uses were last written.
    used: AtomicBool,
}

/// All keys that may be used.
#[derive(Default)]
pub(crate) struct Index {
    /// Places in `entries`.
    table: HashTable<u32>,
    entries: Vec<Option<Entry>>,
    /// Places that are free.
    free: Vec<u32>,
}

fn place(half: &[u8; 16]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *half;
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

fn same(entries: &[Option<Entry>], at: u32, half: &[u8; 16]) -> bool {
    let entry = entries.get(at as usize).and_then(Option::as_ref);
    entry.is_some_and(|entry| constant_time::verify_slices_are_equal(&entry.hash, half).is_ok())
}

fn place_of(entries: &[Option<Entry>], at: u32) -> u64 {
    let entry = entries.get(at as usize).and_then(Option::as_ref);
    entry.map_or(0, |entry| place(&entry.hash))
}

impl Index {
    pub(crate) fn with_capacity(count: usize) -> Self {
        Self {
            table: HashTable::with_capacity(count),
            entries: Vec::with_capacity(count),
            free: Vec::new(),
        }
    }

    /// How many texts of keys there are.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    pub(crate) fn insert(&mut self, secret: ActiveSecret) {
        let half = secret.hash.half();
        let entry = Entry {
            hash: half,
            id: secret.id.0,
            text: secret.text,
            expires: secret.expires,
            used: AtomicBool::new(false),
        };
        let entries = &self.entries;
        let found = self.table.entry(
            place(&half),
            |at| same(entries, *at, &half),
            |at| place_of(entries, *at),
        );
        match found {
            TableEntry::Occupied(found) => {
                let at = *found.get() as usize;
                if let Some(slot) = self.entries.get_mut(at) {
                    *slot = Some(entry);
                }
            }
            TableEntry::Vacant(vacant) => {
                let next = u32::try_from(self.entries.len()).ok();
                let Some(at) = self.free.pop().or(next) else {
                    return tracing::error!(
                        "there are more than 4 billion keys: one is not usable"
                    );
                };
                vacant.insert(at);
                match self.entries.get_mut(at as usize) {
                    Some(slot) => *slot = Some(entry),
                    None => {
                        if self.entries.len() == self.entries.capacity() {
                            // An eighth more, not twice as much: there may be millions.
                            self.entries.reserve_exact(64 + self.entries.len() / 8);
                        }
                        self.entries.push(Some(entry));
                    }
                }
            }
        }
    }

    pub(crate) fn remove(&mut self, hash: &KeyHash) {
        let half = hash.half();
        let entries = &self.entries;
        let found = self
            .table
            .find_entry(place(&half), |at| same(entries, *at, &half));
        if let Ok(found) = found {
            let (at, _) = found.remove();
            if let Some(slot) = self.entries.get_mut(at as usize) {
                *slot = None;
                self.free.push(at);
            }
        }
    }

    fn get(&self, hash: &KeyHash, now: u64) -> Option<&Entry> {
        let half = hash.half();
        let at = self
            .table
            .find(place(&half), |at| same(&self.entries, *at, &half))?;
        let entry = self.entries.get(*at as usize)?.as_ref()?;
        (entry.expires == u32::MAX || u64::from(entry.expires) > now).then_some(entry)
    }

    /// The key of a hash, if it may be used now, and whether this is its first use since [`Self::unused`].
    pub(crate) fn find(&self, hash: &KeyHash, now: u64) -> Option<(Granted, bool)> {
        let entry = self.get(hash, now)?;
        let first = !entry.used.load(Relaxed) && !entry.used.swap(true, Relaxed);
        let granted = Granted::new(*hash, KeyId(entry.id), entry.expires, entry.text.clone());
        Some((granted, first))
    }

    /// When the key of a hash ends, if it may be used now; `u32::MAX`: never.
    pub(crate) fn expires(&self, hash: &KeyHash, now: u64) -> Option<u32> {
        self.get(hash, now).map(|entry| entry.expires)
    }

    /// Forgets that a text was used.
    pub(crate) fn unused(&self, hash: &KeyHash) {
        if let Some(entry) = self.get(hash, 0) {
            entry.used.store(false, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::Pepper;

    fn secret(pepper: &Pepper, number: u64) -> ActiveSecret {
        ActiveSecret {
            hash: pepper.hash_bytes(&number.to_ne_bytes()),
            id: KeyId(number),
            expires: u32::MAX,
            text: format!("key {number}\nme\nread write\n\n").into(),
        }
    }

    #[test]
    fn entry_has_the_size_that_the_header_states() {
        assert_eq!(size_of::<Option<Entry>>(), 48);
    }

    #[test]
    fn index_has_what_was_inserted_and_not_removed() {
        let pepper = Pepper::new(&[7; 32]).unwrap();
        let mut index = Index::default();
        for number in 0..10_000 {
            index.insert(secret(&pepper, number));
        }
        for number in (0..10_000).step_by(2) {
            index.remove(&secret(&pepper, number).hash);
            index.remove(&secret(&pepper, number).hash);
        }
        for number in 20_000..24_000 {
            index.insert(secret(&pepper, number));
            index.insert(secret(&pepper, number));
        }
        assert_eq!(index.len(), 9_000);
        assert_eq!(index.entries.len(), 10_000);
        for number in 0..30_000 {
            let hash = secret(&pepper, number).hash;
            let there = (number < 10_000 && number % 2 == 1) || (20_000..24_000).contains(&number);
            let found = index.find(&hash, 5);
            assert_eq!(
                found.as_ref().map(|(key, _)| key.id.0),
                there.then_some(number)
            );
            assert_eq!(index.expires(&hash, 5), there.then_some(u32::MAX));
            assert!(found.is_none_or(|(_, first)| first));
            assert!(index.find(&hash, 5).is_none_or(|(_, first)| !first));
        }
    }

    #[test]
    fn granted_key_shows_what_sites_see() {
        let text = "a \"name\"\nme\nread shop/write\n10/s - -\n{\"plan\":\"a\\nb\"}";
        let granted = Granted::new(KeyHash([0; 32]), KeyId(1), u32::MAX, text.into());
        assert_eq!(
            granted.to_json(),
            r#"{"id":"key_00000000001","name":"a \"name\"","scopes":["read","shop/write"],"metadata":{"plan":"a\nb"}}"#
        );
        assert_eq!(granted.owner(), "me");
        assert_eq!(
            granted.limits(),
            KeyLimits::parse(Some("10/s"), None, None).unwrap()
        );
        // A text that is cut has empty parts.
        let cut = Granted::new(KeyHash([0; 32]), KeyId(1), u32::MAX, "a\nme".into());
        assert_eq!((cut.name(), cut.owner(), cut.scopes().0), ("a", "me", ""));
        assert!(cut.to_json().ends_with("\"metadata\":{}}"));
    }
}
