//! The counters of all clients, in bounded memory.
//!
//! Invariants:
//! 1. There are never more counters than the capacity, and 16 for each limit, whatever clients send. A counter is
//!    40 bytes.
//! 2. A counter that something was taken from is never removed: it goes when it is as if nothing was ever taken.
//!    Nobody can push out the counter of another client, or one of his own.
//! 3. Counters whose subject clients make up (a header, an address) are at most a sixteenth of all for one network,
//!    and at most a quarter for one limit. A subject that gets no counter of its own shares one with others of its
//!    limit, by its network.
//! 4. Where a counter lies depends on a secret, so that nobody can choose subjects that meet.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use siphasher::sip::SipHasher13;

use crate::allowance::{Allowance, Left, Now, Taken};
use crate::rate::RateState;

/// Counters of one bucket.
const WAYS: usize = 16;

/// Groups of networks and of limits whose counters are counted together.
const GROUPS: usize = 4096;

/// Counters that subjects without one of their own share, for each limit.
const SHARED: u64 = 16;

/// No group: the counter counts against no share.
const NO_GROUP: u16 = u16::MAX;

/// Bytes of the key that says where counters lie.
pub const COUNTER_KEY: usize = 16;

/// Who is taken to have an address, as counters know it.
#[derive(Clone, Copy, Debug)]
pub struct NetworkId(u64);

/// One counter, maybe not there yet.
#[derive(Clone, Copy, Debug)]
pub struct CounterId {
    tag: u64,
    /// The number of its limit, which is a keyed hash.
    of: u64,
    /// Set where clients make the subject up.
    network: Option<NetworkId>,
}

impl CounterId {
    /// The groups of networks and of limits whose shares it counts against.
    fn groups(self) -> (u16, u16) {
        let group = |hash: u64| u16::try_from(hash % GROUPS as u64).unwrap_or(0);
        match self.network {
            Some(network) => (group(network.0), group(self.of)),
            None => (NO_GROUP, NO_GROUP),
        }
    }

    /// The counter's number for [`Counters::reset`]: the same one after a restart, with the same key.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.tag
    }
}

/// What a quota has counted, as it outlives a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountedQuota {
    /// Names the counter, with the same key.
    pub tag: u64,
    /// When its window ends, in seconds since 1970.
    pub ends: u64,
    /// Units.
    pub units: u64,
}

struct Entry {
    tag: u64,
    taken: Taken,
    network: u16,
    limit: u16,
    /// It is in `Counters::changed`.
    changed: bool,
}

/// Counters of what clients took of their allowances.
pub struct Counters {
    key: [u8; COUNTER_KEY],
    buckets: Box<[Mutex<Vec<Entry>>]>,
    /// Counters of each group of networks, and of each group of limits.
    networks: Box<[AtomicU32]>,
    limits: Box<[AtomicU32]>,
    /// The bucket that is cleared next.
    hand: AtomicUsize,
    /// Shared counters: [`SHARED`] for each limit that ever needed them.
    shared: Mutex<HashMap<u64, Taken>>,
    /// Quotas that were changed since they were last saved.
    changed: Mutex<Vec<u64>>,
}

impl Counters {
    /// Counters, at most `capacity` (in steps of 16), placed by a secret key.
    #[must_use]
    pub fn new(capacity: usize, key: [u8; COUNTER_KEY]) -> Self {
        let groups = || (0..GROUPS).map(|_| AtomicU32::new(0)).collect();
        Self {
            key,
            buckets: (0..capacity.div_ceil(WAYS).max(1))
                .map(|_| Mutex::default())
                .collect(),
            networks: groups(),
            limits: groups(),
            hand: AtomicUsize::new(0),
            shared: Mutex::default(),
            changed: Mutex::default(),
        }
    }

    fn hash(&self, value: impl Hash) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        value.hash(&mut hasher);
        hasher.finish()
    }

    /// A number for a limit, from what it is: the same one after a restart, with the same key.
    #[must_use]
    pub fn limit(&self, what: &str) -> u64 {
        self.hash(("limit", what))
    }

    /// The network of a client's address. One request needs it once, whatever it counts against.
    #[must_use]
    pub fn network(&self, address: IpAddr) -> NetworkId {
        NetworkId(self.hash(("network", owner(address))))
    }

    /// The counter of a subject for a limit. `network` is the client's where clients make the subject up; `None` for
    /// subjects that somebody vouches for, such as the id of an API key.
    #[must_use]
    pub fn id(&self, limit: u64, subject: &[u8], network: Option<NetworkId>) -> CounterId {
        CounterId {
            tag: self.hash((limit, subject)),
            of: limit,
            network,
        }
    }

    /// The counter that a subject without one of its own shares.
    fn shared(&self, counter: CounterId) -> u64 {
        let network = counter.network.map_or(0, |network| network.0 % SHARED);
        self.hash(("shared", counter.of, network))
    }

    /// Takes units that are left, or nothing. With no units it takes nothing, and checks that one is left.
    ///
    /// # Errors
    /// The time to wait until they are.
    pub fn try_take(
        &self,
        counter: CounterId,
        allowance: &Allowance,
        units: u64,
        now: Now,
    ) -> Result<Left, Duration> {
        self.with(counter, allowance, now, |taken| {
            allowance.try_take(taken, units, now)
        })
    }

    /// Takes units that were used, in any case, and returns how long it takes until a unit is left again: zero where
    /// one is left.
    pub fn take(
        &self,
        counter: CounterId,
        allowance: &Allowance,
        units: u64,
        now: Now,
    ) -> Duration {
        self.with(counter, allowance, now, |taken| {
            allowance.take(taken, units, now)
        })
    }

    /// Gives back units that were taken and not used.
    pub fn give_back(&self, counter: CounterId, allowance: &Allowance, units: u64, now: Now) {
        self.with(counter, allowance, now, |taken| {
            allowance.give_back(taken, units);
        });
    }

    /// What is left of an allowance. It takes nothing, and makes no counter.
    #[must_use]
    pub fn left(&self, counter: CounterId, allowance: &Allowance, now: Now) -> Left {
        let nothing = || allowance.nothing_taken(now);
        let (own, has_room) = match self.bucket(counter.tag).map(Mutex::lock) {
            Some(bucket) => {
                let own = bucket.iter().find(|entry| entry.tag == counter.tag);
                let own = own.map(|entry| entry.taken);
                (own, self.has_room(&bucket, counter))
            }
            None => (None, false),
        };
        let shared = || self.shared.lock().get(&self.shared(counter)).copied();
        let taken = match own {
            None if !has_room => shared(),
            own => own,
        };
        allowance.left_of(taken.unwrap_or_else(nothing), now)
    }

    /// Makes the counter with a number as if nothing was ever taken from it. Returns whether there is one. What
    /// subjects without a counter of their own share stays.
    pub fn reset(&self, number: u64) -> bool {
        let Some(bucket) = self.bucket(number) else {
            return false;
        };
        let mut bucket = bucket.lock();
        let Some(entry) = bucket.iter_mut().find(|entry| entry.tag == number) else {
            return false;
        };
        match &mut entry.taken {
            Taken::Rate(state) => *state = RateState::default(),
            Taken::Quota { units, .. } => {
                *units = 0;
                if !std::mem::replace(&mut entry.changed, true) {
                    self.changed.lock().push(number);
                }
            }
        }
        true
    }

    /// How many counters there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.buckets.iter().map(|bucket| bucket.lock().len()).sum()
    }

    fn bucket(&self, tag: u64) -> Option<&Mutex<Vec<Entry>>> {
        // All bits of a tag are a hash: a product spreads it as a remainder does, and takes a fraction of the time.
        let at = (u128::from(tag) * self.buckets.len() as u128) >> 64;
        self.buckets.get(usize::try_from(at).unwrap_or(0))
    }

    /// Runs `change` on a counter, or on the one that it shares.
    fn with<T>(
        &self,
        counter: CounterId,
        allowance: &Allowance,
        now: Now,
        change: impl FnOnce(&mut Taken) -> T,
    ) -> T {
        if let Some(bucket) = self.bucket(counter.tag) {
            let mut bucket = bucket.lock();
            let known = bucket.iter().position(|entry| entry.tag == counter.tag);
            let at = match known {
                Some(at) => Some(at),
                None => self.make(&mut bucket, counter, allowance, now),
            };
            if let Some(entry) = at.and_then(|at| bucket.get_mut(at)) {
                let outcome = change(&mut entry.taken);
                let is_quota = matches!(entry.taken, Taken::Quota { .. });
                if is_quota && !std::mem::replace(&mut entry.changed, true) {
                    self.changed.lock().push(entry.tag);
                }
                drop(bucket);
                if known.is_none() {
                    self.clear_next(now);
                }
                return outcome;
            }
        }
        self.clear_next(now);
        let mut shared = self.shared.lock();
        if shared.len() == shared.capacity() {
            // Of limits that a configuration had before.
            shared.retain(|_, taken| !taken.is_nothing(now));
        }
        let nothing = || allowance.nothing_taken(now);
        let number = self.shared(counter);
        change(shared.entry(number).or_insert_with(nothing))
    }

    /// Makes a counter where there is room for it, and gives its place.
    fn make(
        &self,
        bucket: &mut Vec<Entry>,
        counter: CounterId,
        allowance: &Allowance,
        now: Now,
    ) -> Option<usize> {
        if bucket.len() >= WAYS {
            self.clear(bucket, now);
        }
        if !self.has_room(bucket, counter) {
            return None;
        }
        let (network, limit) = counter.groups();
        for (groups, group) in self.groups(network, limit) {
            if let Some(count) = groups.get(usize::from(group)) {
                count.fetch_add(1, Relaxed);
            }
        }
        bucket.push(Entry {
            tag: counter.tag,
            taken: allowance.nothing_taken(now),
            network,
            limit,
            changed: false,
        });
        Some(bucket.len() - 1)
    }

    /// Whether a bucket has a place for a counter, and the counter's groups have a share left.
    fn has_room(&self, bucket: &[Entry], counter: CounterId) -> bool {
        let capacity = u32::try_from(self.buckets.len() * WAYS).unwrap_or(u32::MAX);
        let has_share = |groups: &[AtomicU32], group: u16, share: u32| {
            groups
                .get(usize::from(group))
                .is_none_or(|count| count.load(Relaxed) < share.max(1))
        };
        let (network, limit) = counter.groups();
        bucket.len() < WAYS
            && has_share(&self.networks, network, capacity / 16)
            && has_share(&self.limits, limit, capacity / 4)
    }

    fn groups(&self, network: u16, limit: u16) -> [(&[AtomicU32], u16); 2] {
        [(&self.networks, network), (&self.limits, limit)]
    }

    /// Removes the counters of a bucket that are as if nothing was ever taken.
    fn clear(&self, bucket: &mut Vec<Entry>, now: Now) {
        bucket.retain(|entry| {
            // One that is to be saved stays until it is.
            let stays = entry.changed || !entry.taken.is_nothing(now);
            if !stays {
                for (groups, group) in self.groups(entry.network, entry.limit) {
                    if let Some(count) = groups.get(usize::from(group)) {
                        count.fetch_sub(1, Relaxed);
                    }
                }
            }
            stays
        });
        if bucket.is_empty() {
            *bucket = Vec::new();
        }
    }

    /// Clears one more bucket, so that each is cleared while others fill.
    fn clear_next(&self, now: Now) {
        let at = self.hand.fetch_add(1, Relaxed) % self.buckets.len();
        if let Some(mut bucket) = self.buckets.get(at).and_then(Mutex::try_lock) {
            self.clear(&mut bucket, now);
        }
    }

    /// The quotas that have changed since this was last called.
    pub fn changed_quotas(&self) -> Vec<CountedQuota> {
        let tags = std::mem::take(&mut *self.changed.lock());
        let quotas = tags.into_iter().filter_map(|tag| {
            let mut bucket = self.bucket(tag)?.lock();
            let entry = bucket.iter_mut().find(|entry| entry.tag == tag)?;
            entry.changed = false;
            match entry.taken {
                Taken::Quota { ends, units } => Some(CountedQuota { tag, ends, units }),
                Taken::Rate(_) => None,
            }
        });
        quotas.collect()
    }

    /// Notes quotas as changed that could not be saved.
    pub fn not_saved(&self, quotas: &[CountedQuota]) {
        for quota in quotas {
            let Some(bucket) = self.bucket(quota.tag) else {
                continue;
            };
            let mut bucket = bucket.lock();
            let entry = bucket.iter_mut().find(|entry| entry.tag == quota.tag);
            if let Some(entry) = entry
                && !std::mem::replace(&mut entry.changed, true)
            {
                self.changed.lock().push(quota.tag);
            }
        }
    }

    /// Puts a quota back that was saved.
    pub fn restore(&self, quota: CountedQuota) {
        let Some(bucket) = self.bucket(quota.tag) else {
            return;
        };
        let mut bucket = bucket.lock();
        let taken = Taken::Quota {
            ends: quota.ends,
            units: quota.units,
        };
        if bucket.len() < WAYS && bucket.iter().all(|entry| entry.tag != quota.tag) {
            bucket.push(Entry {
                tag: quota.tag,
                taken,
                network: NO_GROUP,
                limit: NO_GROUP,
                changed: false,
            });
        }
    }
}

impl std::fmt::Debug for Counters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Counters(of {})", self.buckets.len() * WAYS)
    }
}

/// An address of which only the first `prefix` bits of IPv6 count.
#[must_use]
pub fn network(address: IpAddr, prefix: u8) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let host = 128_u32.saturating_sub(prefix.into());
            let bits = address.to_bits().checked_shr(host).unwrap_or(0);
            Ipv6Addr::from_bits(bits.checked_shl(host).unwrap_or(0)).into()
        }
        address => address,
    }
}

/// Who is taken to have an address: of IPv4 a /24, of IPv6 a /48.
fn owner(address: IpAddr) -> IpAddr {
    match network(address, 48) {
        IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits() >> 8 << 8).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;
    use std::time::Instant;

    use super::*;
    use crate::allowance::Period;

    fn allowance(units: u64, period: Period) -> Allowance {
        Allowance::new(NonZeroU64::new(units).unwrap(), period, None)
    }

    fn now() -> Now {
        Now {
            instant: Instant::now(),
            seconds: 1_796_000_000,
        }
    }

    fn later(now: Now, seconds: u64) -> Now {
        Now {
            instant: now.instant + Duration::from_secs(seconds),
            seconds: now.seconds + seconds,
        }
    }

    fn network_of(counters: &Counters, number: u32) -> Option<NetworkId> {
        Some(counters.network(Ipv4Addr::from_bits(number).into()))
    }

    #[test]
    fn entry_has_the_size_that_the_header_states() {
        assert_eq!(size_of::<Entry>(), 40);
    }

    #[test]
    fn each_subject_has_its_own_counter() {
        let counters = Counters::new(1024, [7; 16]);
        let (rate, now) = (allowance(2, Period::Second), now());
        let limit = counters.limit("a");
        let id = |subject: &str| counters.id(limit, subject.as_bytes(), network_of(&counters, 1));
        for subject in ["a", "b", ""] {
            assert_eq!(
                counters.try_take(id(subject), &rate, 1, now).unwrap().units,
                1
            );
            assert_eq!(
                counters.try_take(id(subject), &rate, 1, now).unwrap().units,
                0
            );
            let wait = counters.try_take(id(subject), &rate, 1, now).unwrap_err();
            assert_eq!(wait, Duration::from_millis(500));
        }
        let other = counters.id(counters.limit("b"), b"a", network_of(&counters, 1));
        assert!(counters.try_take(other, &rate, 1, now).is_ok());
        counters.give_back(id("a"), &rate, 1, now);
        assert!(counters.try_take(id("a"), &rate, 1, now).is_ok());
    }

    #[test]
    fn subjects_that_one_network_makes_up_take_bounded_memory_and_share_what_is_left() {
        let counters = Counters::new(16 * 1024, [7; 16]);
        let (rate, now) = (allowance(10, Period::Hour), now());
        let limit = counters.limit("a");
        let honest = counters.id(limit, b"honest", network_of(&counters, 0x0a00_0001));
        for _ in 0..10 {
            assert!(counters.try_take(honest, &rate, 1, now).is_ok());
        }
        let mut passed = 0;
        for number in 0..100_000_u32 {
            let id = counters.id(
                limit,
                &number.to_ne_bytes(),
                network_of(&counters, 0x0b00_0001),
            );
            passed += u32::from(counters.try_take(id, &rate, 1, now).is_ok());
        }
        assert!(counters.count() <= 1025, "{}", counters.count());
        // One each, and 10 of the shared counter.
        assert!(passed <= 1034, "{passed}");
        // The counter of an honest client is still there, and one that is new is not in the way of the other.
        assert!(counters.try_take(honest, &rate, 1, now).is_err());
        let new = counters.id(limit, b"new", network_of(&counters, 0x0c00_0001));
        for left in (0..10).rev() {
            assert_eq!(counters.try_take(new, &rate, 1, now).unwrap().units, left);
        }
    }

    #[test]
    fn subjects_of_all_networks_never_exceed_the_capacity() {
        let counters = Counters::new(1024, [7; 16]);
        let (rate, now) = (allowance(10, Period::Hour), now());
        let take = |limit: &str, number: u32, address: u32, now| {
            let id = counters.id(
                counters.limit(limit),
                &number.to_ne_bytes(),
                network_of(&counters, address),
            );
            counters.try_take(id, &rate, 1, now).is_ok()
        };
        for number in 0..100_000_u32 {
            take("a", number, number << 8, now);
        }
        assert!(counters.count() <= 256);
        // Another limit is not affected by one whose share is used up.
        for number in 0..100 {
            assert!(take("b", number, number << 8, now), "{number}");
        }
        for number in 0..100_000_u32 {
            take(&number.to_string(), number, number << 8, now);
        }
        assert!(counters.count() <= 1024);
        // All of it goes when it is as if nothing was taken.
        let later = later(now, 3600);
        for number in 0..100 {
            assert!(take("c", number, number << 8, later), "{number}");
        }
        assert!(counters.count() <= 100, "{}", counters.count());
    }

    #[test]
    fn counter_is_looked_at_without_being_made_and_is_set_back() {
        let counters = Counters::new(1024, [7; 16]);
        let (rate, quota, now) = (
            allowance(10, Period::Hour),
            allowance(10, Period::Day),
            now(),
        );
        let of = |what: &str| counters.id(counters.limit(what), b"a", None);
        for (what, allowance) in [("r", rate), ("q", quota)] {
            assert_eq!(counters.left(of(what), &allowance, now).units, 10);
            assert!(!counters.reset(of(what).number()));
            assert_eq!(counters.count(), 0);
            let taken = counters.try_take(of(what), &allowance, 4, now).unwrap();
            assert_eq!(counters.left(of(what), &allowance, now), taken);
            counters.changed_quotas();
            assert!(counters.reset(of(what).number()));
            assert_eq!(counters.left(of(what), &allowance, now).units, 10);
            // A file of quotas learns of it.
            let saved = counters.changed_quotas();
            assert_eq!(saved.len(), usize::from(what == "q"));
            assert!(saved.iter().all(|quota| quota.units == 0));
            counters.clear_next(now);
            (0..100).for_each(|_| counters.clear_next(now));
            assert_eq!(counters.count(), 0);
        }
        // A window that is over.
        counters.try_take(of("q"), &quota, 4, now).unwrap();
        let tomorrow = later(now, 86_400);
        assert_eq!(counters.left(of("q"), &quota, tomorrow).units, 10);
    }

    #[test]
    fn subject_without_a_counter_of_its_own_is_shown_what_it_shares() {
        let counters = Counters::new(1024, [7; 16]);
        let (rate, now) = (allowance(10, Period::Hour), now());
        let limit = counters.limit("a");
        let network = network_of(&counters, 1);
        let id = |number: u32| counters.id(limit, &number.to_ne_bytes(), network);
        // One network has a sixteenth of the counters; the rest of its subjects share one.
        for number in 0..70 {
            counters.take(id(number), &rate, 1, now);
        }
        assert_eq!(counters.count(), 64);
        assert_eq!(counters.left(id(0), &rate, now).units, 9);
        assert_eq!(counters.left(id(1000), &rate, now).units, 4);
    }

    #[test]
    fn quotas_are_the_same_after_a_restart_and_rates_begin_again() {
        let (quota, rate, now) = (allowance(3, Period::Day), allowance(3, Period::Hour), now());
        let counters = Counters::new(1024, [7; 16]);
        let of = |counters: &Counters, what| counters.id(counters.limit(what), b"key", None);
        for _ in 0..3 {
            assert!(
                counters
                    .try_take(of(&counters, "q"), &quota, 1, now)
                    .is_ok()
            );
            assert!(counters.try_take(of(&counters, "r"), &rate, 1, now).is_ok());
        }
        let saved = counters.changed_quotas();
        assert_eq!(saved.len(), 1);
        assert_eq!(counters.changed_quotas(), []);
        counters.not_saved(&saved);
        assert_eq!(counters.changed_quotas(), saved);
        let again = Counters::new(1024, [7; 16]);
        saved.iter().for_each(|quota| again.restore(*quota));
        assert!(again.try_take(of(&again, "q"), &quota, 1, now).is_err());
        assert!(again.try_take(of(&again, "r"), &rate, 1, now).is_ok());
        let tomorrow = later(now, 86_400);
        assert!(again.try_take(of(&again, "q"), &quota, 1, tomorrow).is_ok());
    }

    #[test]
    fn clock_that_jumps_gives_no_rate_and_no_quota_again() {
        let counters = Counters::new(1024, [7; 16]);
        let (rate, quota) = (allowance(2, Period::Hour), allowance(2, Period::Month));
        let now = now();
        let at = |seconds: i64| Now {
            seconds: now.seconds.saturating_add_signed(seconds),
            ..now
        };
        let of = |what: &str| counters.id(counters.limit(what), b"a", network_of(&counters, 1));
        for (what, allowance) in [("r", rate), ("q", quota)] {
            for _ in 0..2 {
                assert!(counters.try_take(of(what), &allowance, 1, now).is_ok());
            }
        }
        // Set back by a day, a month and to 1970.
        for seconds in [-86_400, -31 * 86_400, i64::MIN] {
            for (what, allowance) in [("r", rate), ("q", quota)] {
                let taken = counters.try_take(of(what), &allowance, 1, at(seconds));
                assert!(taken.is_err(), "{what} at {seconds}");
            }
        }
        // Set forward over the end of a month, a quota is that of the next one, and never more than one; a rate is by
        // another clock.
        let ahead = at(365 * 86_400);
        for (time, is_left) in [
            (ahead, true),
            (ahead, true),
            (ahead, false),
            (at(-86_400), false),
            (now, false),
        ] {
            let taken = counters.try_take(of("q"), &quota, 1, time);
            assert_eq!(taken.is_ok(), is_left);
            assert!(counters.try_take(of("r"), &rate, 1, time).is_err());
        }
    }

    #[test]
    fn network_of_an_address_has_its_prefix() {
        for (address_text, prefix, expected) in [
            ("2001:db8:1:2:3::4", 64, "2001:db8:1:2::"),
            ("2001:db8:1:2:3::4", 128, "2001:db8:1:2:3::4"),
            ("2001:db8:1:2:3::4", 32, "2001:db8::"),
            ("2001:db8:1:2:3::4", 0, "::"),
            ("192.0.2.7", 64, "192.0.2.7"),
            ("::ffff:192.0.2.7", 64, "192.0.2.7"),
        ] {
            let address: IpAddr = address_text.parse().unwrap();
            assert_eq!(network(address, prefix).to_string(), expected);
        }
        assert_eq!(owner("192.0.2.7".parse().unwrap()).to_string(), "192.0.2.0");
        let of_site = owner("2001:db8:1:2:3::4".parse().unwrap());
        assert_eq!(of_site.to_string(), "2001:db8:1::");
    }
}
