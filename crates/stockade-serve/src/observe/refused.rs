//! What guests were refused of the network and of folders lately, for operators.
//!
//! Invariant: a guest takes a bounded part of the memory: [`MOST_REFUSALS`] entries of its instance, each with at most
//! [`TARGET_BYTES`] of what it named. The same refusal again is counted in its entry; a new one takes the place of the one
//! that was repeated the longest time ago.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use stockade_broker::Refusal;

/// Different refusals of one instance that are kept.
const MOST_REFUSALS: usize = 64;

/// Bytes of a target that are kept.
const TARGET_BYTES: usize = 512;

/// A refusal, and how often there was the same one.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    /// The first one. Its target may be cut.
    pub(crate) refusal: Refusal,
    pub(crate) count: u64,
    pub(crate) first: SystemTime,
    pub(crate) last: SystemTime,
}

/// The latest refusals of each instance.
#[derive(Default)]
pub(crate) struct RefusedLately(Mutex<HashMap<Arc<str>, Vec<Refused>>>);

impl RefusedLately {
    /// Counts a refusal.
    pub(crate) fn add(&self, refusal: &Refusal, now: SystemTime) {
        let target = cut(&refusal.target);
        let mut instances = self.0.lock();
        let entries = instances.entry(Arc::clone(&refusal.instance)).or_default();
        let same = entries.iter_mut().find(|entry| {
            entry.refusal.target == target
                && entry.refusal.action == refusal.action
                && entry.refusal.reason == refusal.reason
        });
        if let Some(entry) = same {
            entry.count = entry.count.saturating_add(1);
            entry.last = now;
            return;
        }
        if entries.len() >= MOST_REFUSALS
            && let Some((oldest, _)) =
                (entries.iter().enumerate()).min_by_key(|(_, entry)| entry.last)
        {
            entries.swap_remove(oldest);
        }
        entries.push(Refused {
            refusal: Refusal {
                target: target.to_owned(),
                ..refusal.clone()
            },
            count: 1,
            first: now,
            last: now,
        });
    }

    /// The refusals of an instance, the latest first.
    pub(crate) fn of(&self, instance: &str) -> Vec<Refused> {
        let mut entries = self.0.lock().get(instance).cloned().unwrap_or_default();
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.last));
        entries
    }

    /// Forgets an instance that is gone.
    pub(crate) fn forget(&self, instance: &str) {
        self.0.lock().remove(instance);
    }
}

fn cut(target: &str) -> &str {
    &target[..target.floor_char_boundary(TARGET_BYTES)]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use stockade_broker::{Action, Reason};

    use super::*;

    fn refusal(target: &str) -> Refusal {
        Refusal {
            instance: "shop".into(),
            action: Action::Fetch,
            target: target.to_owned(),
            rule: None,
            reason: Reason::HostNotAllowed,
            address: None,
        }
    }

    #[test]
    fn refused_the_same_again_is_counted() {
        let refused = RefusedLately::default();
        let start = SystemTime::UNIX_EPOCH;
        let later = start + Duration::from_secs(5);
        refused.add(&refusal("http://a:80"), start);
        refused.add(&refusal("http://b:80"), start + Duration::from_secs(1));
        refused.add(&refusal("http://a:80"), later);
        let entries = refused.of("shop");
        let counts: Vec<_> = (entries.iter())
            .map(|entry| (entry.refusal.target.as_str(), entry.count))
            .collect();
        assert_eq!(counts, [("http://a:80", 2), ("http://b:80", 1)]);
        assert_eq!((entries[0].first, entries[0].last), (start, later));
        assert!(refused.of("blog").is_empty());
        refused.forget("shop");
        assert!(refused.of("shop").is_empty());
    }

    #[test]
    fn refused_by_a_hostile_guest_stays_bounded() {
        let refused = RefusedLately::default();
        let start = SystemTime::UNIX_EPOCH;
        for number in 0..1000_u64 {
            let target = format!("http://{number}.{}:80", "é".repeat(1000));
            refused.add(&refusal(&target), start + Duration::from_secs(number));
        }
        let entries = refused.of("shop");
        assert_eq!(entries.len(), MOST_REFUSALS);
        assert!(entries[0].refusal.target.starts_with("http://999."));
        assert!(
            entries
                .iter()
                .all(|entry| entry.refusal.target.len() <= TARGET_BYTES)
        );
    }
}
