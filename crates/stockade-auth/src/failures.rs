//! Bounds how many wrong keys one address may try, so that guessing costs the guesser time and the server little.

use std::net::{IpAddr, Ipv6Addr};
use std::num::{NonZeroU64, NonZeroUsize};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lru::LruCache;
use parking_lot::Mutex;
use stockade_limits::RateLimiter;

/// Wrong keys a second that one address may try.
const PER_SECOND: NonZeroU64 = NonZeroU64::new(2).expect("not zero");

/// The wrong keys of this time may come at once.
const BURST: Duration = Duration::from_secs(30);

/// Addresses that are remembered; the one that failed longest ago is forgotten first. At most some 8 MB.
const ADDRESSES: NonZeroUsize = NonZeroUsize::new(65_536).expect("not zero");

/// Counts the wrong keys of each address; addresses of IPv6 count by their /64.
pub struct FailureLimiter {
    addresses: Mutex<LruCache<IpAddr, RateLimiter>>,
    /// An address has failed: until then requests share no lock for this.
    any: AtomicBool,
}

impl Default for FailureLimiter {
    fn default() -> Self {
        Self {
            addresses: Mutex::new(LruCache::new(ADDRESSES)),
            any: AtomicBool::new(false),
        }
    }
}

impl FailureLimiter {
    /// Whether an address may try a key now.
    ///
    /// # Errors
    /// How long it must wait.
    pub fn check(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        if !self.any.load(Ordering::Acquire) {
            return Ok(());
        }
        let addresses = self.addresses.lock();
        let rate = addresses.peek(&network(address));
        let wait = rate.map_or(Duration::ZERO, |rate| rate.wait(now));
        if wait.is_zero() { Ok(()) } else { Err(wait) }
    }

    /// Counts a wrong key of an address.
    pub fn failed(&self, address: IpAddr, now: Instant) {
        let mut addresses = self.addresses.lock();
        let new = || RateLimiter::new(PER_SECOND, BURST);
        addresses
            .get_or_insert_mut(network(address), new)
            .take(1, now);
        self.any.store(true, Ordering::Release);
    }
}

impl std::fmt::Debug for FailureLimiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FailureLimiter")
    }
}

/// What an address counts as: one client has a whole /64 of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_that_guesses_waits_and_others_do_not() {
        let failures = FailureLimiter::default();
        let now = Instant::now();
        let guesser: IpAddr = "2001:db8::1".parse().unwrap();
        let tried = (0..1000)
            .take_while(|_| {
                let may = failures.check(guesser, now).is_ok();
                failures.failed(guesser, now);
                may
            })
            .count();
        assert_eq!(tried, 61);
        let same: IpAddr = "2001:db8::ffff".parse().unwrap();
        assert!(failures.check(same, now).is_err());
        for other in ["2001:db8:0:1::1", "192.0.2.1"] {
            assert!(failures.check(other.parse().unwrap(), now).is_ok());
        }
        let wait = failures.check(same, now).unwrap_err();
        assert!(failures.check(same, now + wait).is_ok());
        // A clock that goes back changes nothing.
        assert!(failures.check(same, now - Duration::from_secs(1)).is_err());
    }

    #[test]
    fn addresses_without_end_take_bounded_memory() {
        let failures = FailureLimiter::default();
        let now = Instant::now();
        for number in 0..200_000_u32 {
            failures.failed(std::net::Ipv4Addr::from_bits(number).into(), now);
        }
        assert_eq!(failures.addresses.lock().len(), ADDRESSES.get());
    }
}
