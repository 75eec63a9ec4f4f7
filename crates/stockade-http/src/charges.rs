//! For whose requests an isolate uses CPU and memory.
//!
//! The kernel counts the CPU time of the whole isolate. While all open requests are those of one API key, or of none, what
//! is used is used for that key. While there are requests of several keys, each open request has the same share of what
//! is used. A request is open from the moment at which the guest may begin with it until the guest is done with it.
//!
//! What an isolate computes while no request is open counts for the key of the last request until the next
//! [`Charges::settle`], and then for no key. Memory that it holds meanwhile counts for no key.
//!
//! Where a request has an account, its share of the CPU time is charged there too: when the request ends, and at each
//! [`Charges::settle`] until then. The account of the last request is charged for what the isolate computes after it, as
//! idle time once it is settled.
//!
//! Invariant: what [`Charges::settle`] gives adds up to what the kernel counted for the isolate.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::client::RequestAccount;
use crate::on_behalf::OnBehalf;

/// Digits after the point of a share of a nanosecond, in binary.
const FRACTION: u32 = 32;

const NANOSECONDS: u128 = 1_000_000_000;

/// An isolate whose use is divided.
pub trait Metered {
    /// CPU time since its start, by the kernel's clock.
    fn cpu(&self) -> Duration;

    /// Bytes of memory that it has now, as limits count them.
    fn memory(&self) -> u64;

    /// Since when it has its memory.
    fn since(&self) -> Instant;
}

/// For whose requests an isolate uses CPU and memory. The header of this file describes how it is divided.
#[derive(Default)]
pub struct Charges {
    state: Mutex<State>,
    /// A request has had an account: from then on each request is one that CPU time is divided among.
    limited: AtomicBool,
}

impl Charges {
    /// Whether a request has had an account.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.limited.load(Ordering::Relaxed)
    }

    /// A request of this client begins, and gets a number.
    pub fn begin(&self, client: OnBehalf, of: &impl Metered) -> u64 {
        if client.account.is_some() {
            self.limited.store(true, Ordering::Relaxed);
        }
        self.state.lock().begin(client, of)
    }

    /// The guest is done with the request that has this number.
    pub fn end(&self, number: u64, of: &impl Metered) {
        self.state.lock().end(number, of);
    }

    /// Charges what was used since the last time to the accounts of requests, and gives what was used for each API key.
    pub fn settle(&self, of: &impl Metered) -> Vec<(Option<u64>, Used)> {
        self.state.lock().take(of)
    }

    /// As [`Self::settle`], for the last time: what the isolate uses after it is not charged.
    pub fn settle_last(&self, of: &impl Metered) -> Vec<(Option<u64>, Used)> {
        let mut state = self.state.lock();
        let taken = state.take(of);
        state.over = true;
        taken
    }

    /// The client for which the guest acts now, where that is certain: the key of all open requests, and the account
    /// of the only one.
    #[must_use]
    pub fn in_charge(&self) -> OnBehalf {
        let state = self.state.lock();
        let key = match state.open_keys {
            0 => state.last,
            1 => state.open.values().next().and_then(|open| open.key),
            _ => None,
        };
        let mut open = state.open.values();
        let account = match (open.next(), open.next()) {
            (None, _) => state.last_account.clone().filter(|_| state.just_ended),
            (Some(only), None) => only.account.clone(),
            _ => None,
        };
        OnBehalf { key, account }
    }
}

/// The number of an API key; none for requests without one.
type Key = Option<u64>;

#[derive(Default)]
struct State {
    open: HashMap<u64, Open>,
    next: u64,
    keys: HashMap<Key, OfKey>,
    /// Keys with open requests.
    open_keys: usize,
    /// The key of the last request, while none is open.
    last: Key,
    /// Open requests with an account.
    accounts: usize,
    /// The account of the last request, while none is open, and whether nothing was settled since.
    last_account: Option<Arc<dyn RequestAccount>>,
    just_ended: bool,
    /// Nanoseconds of CPU time before the first request.
    start: u64,
    /// Nanoseconds of CPU time that were divided, and those of them that were given to keys.
    cpu: u64,
    cpu_given: u64,
    /// Nanoseconds that a request has got that was open all the time, with a fraction.
    cpu_each: u128,
    /// Memory that was divided, in bytes times nanoseconds.
    memory: u128,
    memory_given: u128,
    memory_each: u128,
    /// When memory was last counted.
    at: Option<Instant>,
    /// It was settled for the last time.
    over: bool,
}

/// An open request, and what a request that was open all the time had got when it began.
struct Open {
    key: Key,
    account: Option<Arc<dyn RequestAccount>>,
    cpu_from: u128,
    memory_from: u128,
}

/// What was used for one key and is not reported.
#[derive(Default)]
struct OfKey {
    open: u32,
    cpu: u64,
    memory: u128,
}

impl State {
    fn begin(&mut self, client: OnBehalf, of: &impl Metered) -> u64 {
        let OnBehalf { key, account } = client;
        self.count_memory(of);
        // With another client than those before, what was used until now is theirs.
        let no_account = account.is_none() && self.accounts == 0 && self.last_account.is_none();
        let same = no_account
            && match self.open_keys {
                0 => self.last == key,
                1 => self.keys.get(&key).is_some_and(|of_key| of_key.open > 0),
                _ => false,
            };
        if !same {
            self.count_cpu(of);
        }
        if let Some(account) = &account {
            self.accounts += 1;
            account.began();
            account.idle(Duration::from_nanos(std::mem::take(&mut self.start)));
        }
        let of_key = self.keys.entry(key).or_default();
        if of_key.open == 0 {
            self.open_keys += 1;
        }
        of_key.open += 1;
        self.next += 1;
        let open = Open {
            key,
            account,
            cpu_from: self.cpu_each,
            memory_from: self.memory_each,
        };
        self.open.insert(self.next, open);
        self.next
    }

    fn end(&mut self, number: u64, of: &impl Metered) {
        self.count_memory(of);
        if self.open_keys > 1 || self.accounts > 0 {
            self.count_cpu(of);
        }
        let Some(open) = self.open.remove(&number) else {
            return;
        };
        self.give(&open);
        if let Some(account) = &open.account {
            account.ended();
        }
        if let Some(of_key) = self.keys.get_mut(&open.key) {
            of_key.open = of_key.open.saturating_sub(1);
            if of_key.open == 0 {
                self.open_keys = self.open_keys.saturating_sub(1);
            }
        }
        self.accounts -= usize::from(open.account.is_some()).min(self.accounts);
        self.last = open.key;
        self.last_account = open.account;
        self.just_ended = true;
    }

    /// Divides the CPU time since the last time.
    fn count_cpu(&mut self, of: &impl Metered) {
        if self.over {
            return;
        }
        let now = u64::try_from(of.cpu().as_nanos()).unwrap_or(u64::MAX);
        let more = now.saturating_sub(self.cpu);
        self.cpu += more;
        match self.open.len() as u128 {
            0 => {
                self.keys.entry(self.last).or_default().cpu += more;
                self.cpu_given += more;
                let time = Duration::from_nanos(more);
                match &self.last_account {
                    Some(account) if self.just_ended => account.used(time),
                    Some(account) => account.idle(time),
                    None if self.next == 0 => self.start += more,
                    None => {}
                }
            }
            open => self.cpu_each += (u128::from(more) << FRACTION) / open,
        }
    }

    /// Divides the memory since the last time.
    fn count_memory(&mut self, of: &impl Metered) {
        if self.over {
            return;
        }
        let now = Instant::now();
        let since = self.at.replace(now).unwrap_or(of.since());
        let elapsed = now.saturating_duration_since(since).as_nanos();
        let more = u128::from(of.memory()).saturating_mul(elapsed);
        self.memory += more;
        if let Some(each) = more.checked_div(self.open.len() as u128) {
            self.memory_each += each;
        }
    }

    /// Gives a request what it used to its key.
    fn give(&mut self, open: &Open) {
        let cpu = (self.cpu_each - open.cpu_from) >> FRACTION;
        let cpu = u64::try_from(cpu).unwrap_or(u64::MAX);
        let memory = self.memory_each - open.memory_from;
        let of_key = self.keys.entry(open.key).or_default();
        of_key.cpu += cpu;
        of_key.memory += memory;
        self.cpu_given += cpu;
        self.memory_given += memory;
        if let Some(account) = &open.account {
            account.used(Duration::from_nanos(cpu));
        }
    }

    /// Takes what was used for each key.
    fn take(&mut self, of: &impl Metered) -> Vec<(Key, Used)> {
        self.count_memory(of);
        self.count_cpu(of);
        let mut open = std::mem::take(&mut self.open);
        for one in open.values_mut() {
            self.give(one);
            (one.cpu_from, one.memory_from) = (self.cpu_each, self.memory_each);
        }
        self.open = open;
        // What divisions have left, and memory while no request was open.
        let nobody = self.keys.entry(None).or_default();
        nobody.cpu += self.cpu.saturating_sub(self.cpu_given);
        nobody.memory += self.memory.saturating_sub(self.memory_given);
        (self.cpu_given, self.memory_given) = (self.cpu, self.memory);
        if self.open.is_empty() {
            self.last = None;
            self.just_ended = false;
        }
        let (mut taken, mut rest) = (Vec::new(), 0);
        self.keys.retain(|key, of_key| {
            let seconds = of_key.memory / NANOSECONDS;
            of_key.memory %= NANOSECONDS;
            let stays = of_key.open > 0 || key.is_none();
            rest += if stays { 0 } else { of_key.memory };
            let used = Used {
                cpu: Duration::from_nanos(std::mem::take(&mut of_key.cpu)),
                memory_byte_seconds: u64::try_from(seconds).unwrap_or(u64::MAX),
            };
            if used != Used::default() {
                taken.push((*key, used));
            }
            stays
        });
        self.keys.entry(None).or_default().memory += rest;
        taken
    }
}

/// What an isolate used for requests of one API key, or for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Used {
    /// CPU time, by the kernel's clock.
    pub cpu: Duration,
    /// Bytes of memory, as limits count them, each times the seconds for which it was held.
    pub memory_byte_seconds: u64,
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// An isolate without memory, with the nanoseconds that it has used.
    #[derive(Default)]
    struct Clock(Cell<u64>);

    impl Clock {
        fn uses(&self, nanoseconds: u64) {
            self.0.set(self.0.get() + nanoseconds);
        }
    }

    impl Metered for Clock {
        fn cpu(&self) -> Duration {
            Duration::from_nanos(self.0.get())
        }

        fn memory(&self) -> u64 {
            0
        }

        fn since(&self) -> Instant {
            Instant::now()
        }
    }

    /// The nanoseconds that a request was charged, and those that were idle time.
    #[derive(Debug, Default)]
    struct Account(Mutex<(u64, u64)>);

    impl RequestAccount for Account {
        fn used(&self, time: Duration) {
            self.0.lock().0 += time.as_nanos() as u64;
        }

        fn idle(&self, time: Duration) {
            self.0.lock().1 += time.as_nanos() as u64;
        }
    }

    fn of_key(key: u64) -> OnBehalf {
        OnBehalf {
            key: Some(key),
            account: None,
        }
    }

    fn nanoseconds(taken: Vec<(Option<u64>, Used)>) -> HashMap<Option<u64>, u128> {
        let of_key = |(key, used): (Option<u64>, Used)| (key, used.cpu.as_nanos());
        taken.into_iter().map(of_key).collect()
    }

    #[test]
    fn requests_side_by_side_share_what_is_used_and_it_adds_up() {
        let (charges, clock) = (Charges::default(), Clock::default());
        let one = charges.begin(of_key(1), &clock);
        clock.uses(100);
        let two = charges.begin(of_key(2), &clock);
        clock.uses(31);
        charges.end(one, &clock);
        clock.uses(10);
        charges.end(two, &clock);
        let taken = nanoseconds(charges.settle(&clock));
        // The half that remains of 31 belongs to no key.
        let expected = [(Some(1), 115), (Some(2), 25), (None, 1)];
        assert_eq!(taken, HashMap::from(expected));
    }

    #[test]
    fn what_is_used_after_the_last_request_is_its_own_until_it_is_settled() {
        let (charges, clock) = (Charges::default(), Clock::default());
        let account = Arc::new(Account::default());
        let client = OnBehalf {
            key: Some(1),
            account: Some(Arc::clone(&account) as _),
        };
        clock.uses(7);
        let number = charges.begin(client, &clock);
        clock.uses(20);
        charges.end(number, &clock);
        clock.uses(3);
        let taken = nanoseconds(charges.settle(&clock));
        assert_eq!(taken.values().sum::<u128>(), 30);
        assert!(charges.in_charge().key.is_none());
        clock.uses(5);
        let taken = nanoseconds(charges.settle(&clock));
        assert_eq!(taken, HashMap::from([(None, 5)]));
        // The start was idle time of the first account.
        assert_eq!(*account.0.lock(), (23, 12));
    }
}
