//! How many connections are open, in all and by address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::access::Refusal;

/// Counts connections and WebSockets; nothing gets in that does not count.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    open: AtomicUsize,
    accepted: AtomicU64,
    requests: AtomicUsize,
    sockets: AtomicUsize,
    addresses: Mutex<HashMap<IpAddr, usize>>,
    /// Told whenever a connection closes.
    closed: Notify,
}

/// An open connection; dropping it closes it.
#[derive(Debug)]
pub(crate) struct Entered {
    gate: Arc<Gate>,
    address: Mutex<Option<IpAddr>>,
}

/// An open WebSocket; dropping it closes it.
#[derive(Debug)]
pub(crate) struct OpenSocket(Arc<Gate>);

/// A request without complete response; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Running(Arc<Gate>);

impl Gate {
    /// Lets a connection in.
    pub(crate) fn enter(self: &Arc<Self>, limit: usize) -> Result<Entered, Refusal> {
        self.accepted.fetch_add(1, Relaxed);
        let entered = Entered {
            gate: Arc::clone(self),
            address: Mutex::new(None),
        };
        if self.open.fetch_add(1, Relaxed) >= limit {
            return Err(Refusal::Connections);
        }
        Ok(entered)
    }

    pub(crate) fn open_socket(self: &Arc<Self>, limit: usize) -> Option<OpenSocket> {
        let socket = OpenSocket(Arc::clone(self));
        (self.sockets.fetch_add(1, Relaxed) < limit).then_some(socket)
    }

    pub(crate) fn run(self: &Arc<Self>) -> Running {
        self.requests.fetch_add(1, Relaxed);
        Running(Arc::clone(self))
    }

    pub(crate) fn open(&self) -> usize {
        self.open.load(Relaxed)
    }

    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Relaxed)
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Relaxed)
    }

    pub(crate) fn sockets(&self) -> usize {
        self.sockets.load(Relaxed)
    }

    /// Waits until no connection is open.
    pub(crate) async fn until_empty(&self) {
        loop {
            let closed = self.closed.notified();
            if self.open() == 0 {
                return;
            }
            closed.await;
        }
    }
}

impl Entered {
    /// Counts the connection for an address. Called at most once.
    pub(crate) fn belongs_to(&self, address: IpAddr, limit: usize) -> Result<(), Refusal> {
        let key = bucket(address);
        let mut addresses = self.gate.addresses.lock();
        let count = addresses.entry(key).or_default();
        if *count >= limit {
            return Err(Refusal::ConnectionsOfAddress);
        }
        *count += 1;
        *self.address.lock() = Some(key);
        Ok(())
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        if let Some(key) = self.address.lock().take() {
            let mut addresses = self.gate.addresses.lock();
            if let Some(count) = addresses.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    addresses.remove(&key);
                }
            }
            if addresses.capacity() > 1024 && addresses.len() < addresses.capacity() / 8 {
                addresses.shrink_to_fit();
            }
        }
        self.gate.open.fetch_sub(1, Relaxed);
        self.gate.closed.notify_waiters();
    }
}

impl Drop for OpenSocket {
    fn drop(&mut self) {
        self.0.sockets.fetch_sub(1, Relaxed);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Relaxed);
    }
}

/// One customer of a network has a whole /64 of IPv6 (RFC 6177).
fn bucket(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(network.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_over_a_limit_are_refused_until_others_close() {
        let gate = Arc::<Gate>::default();
        let first = gate.enter(2).unwrap();
        let second = gate.enter(2).unwrap();
        assert!(matches!(gate.enter(2), Err(Refusal::Connections)));
        assert_eq!(gate.open(), 2);
        let here: IpAddr = "2001:db8::1".parse().unwrap();
        let beside: IpAddr = "2001:db8::ffff:2".parse().unwrap();
        assert_eq!(first.belongs_to(here, 1), Ok(()));
        assert_eq!(
            second.belongs_to(beside, 1),
            Err(Refusal::ConnectionsOfAddress)
        );
        let other: IpAddr = "2001:db8:0:1::1".parse().unwrap();
        assert_eq!(second.belongs_to(other, 1), Ok(()));
        drop((first, second));
        assert_eq!(gate.open(), 0);
        assert!(gate.addresses.lock().is_empty());
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        assert_eq!(bucket(mapped), "192.0.2.1".parse::<IpAddr>().unwrap());
    }
}
