//! How many connections are open, in all and by address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::access::Refusal;

/// Counts connections, requests and WebSockets, and refuses connections and WebSockets over their limits.
#[derive(Debug, Default)]
pub(crate) struct ConnectionLimiter {
    open: AtomicUsize,
    accepted: AtomicU64,
    requests: AtomicUsize,
    sockets: AtomicUsize,
    addresses: Mutex<HashMap<IpAddr, usize>>,
    /// Notified when a connection closes.
    closed: Notify,
}

/// Permits one open connection; dropping it makes room for another.
#[derive(Debug)]
pub(crate) struct ConnectionPermit {
    limiter: Arc<ConnectionLimiter>,
    address: Mutex<Option<IpAddr>>,
}

/// Permits one open WebSocket; dropping it makes room for another.
#[derive(Debug)]
pub(crate) struct WebSocketPermit(Arc<ConnectionLimiter>);

/// Counts one request as long as its response is not complete, that is until it is dropped.
#[derive(Debug)]
pub(crate) struct RunningRequest(Arc<ConnectionLimiter>);

impl ConnectionLimiter {
    /// Permits a connection, if fewer than `limit` are open.
    pub(crate) fn acquire(self: &Arc<Self>, limit: usize) -> Result<ConnectionPermit, Refusal> {
        self.accepted.fetch_add(1, Relaxed);
        let permit = ConnectionPermit {
            limiter: Arc::clone(self),
            address: Mutex::new(None),
        };
        if self.open.fetch_add(1, Relaxed) >= limit {
            return Err(Refusal::Connections);
        }
        Ok(permit)
    }

    /// Permits a WebSocket, if fewer than `limit` are open.
    pub(crate) fn acquire_websocket(self: &Arc<Self>, limit: usize) -> Option<WebSocketPermit> {
        let permit = WebSocketPermit(Arc::clone(self));
        (self.sockets.fetch_add(1, Relaxed) < limit).then_some(permit)
    }

    pub(crate) fn count_request(self: &Arc<Self>) -> RunningRequest {
        self.requests.fetch_add(1, Relaxed);
        RunningRequest(Arc::clone(self))
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

impl ConnectionPermit {
    /// Counts the connection for its client's address. Called at most once.
    pub(crate) fn count_for(&self, address: IpAddr, limit: usize) -> Result<(), Refusal> {
        let key = bucket(address);
        let mut addresses = self.limiter.addresses.lock();
        let count = addresses.entry(key).or_default();
        if *count >= limit {
            return Err(Refusal::ConnectionsOfAddress);
        }
        *count += 1;
        *self.address.lock() = Some(key);
        Ok(())
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        if let Some(key) = self.address.lock().take() {
            let mut addresses = self.limiter.addresses.lock();
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
        self.limiter.open.fetch_sub(1, Relaxed);
        self.limiter.closed.notify_waiters();
    }
}

impl Drop for WebSocketPermit {
    fn drop(&mut self) {
        self.0.sockets.fetch_sub(1, Relaxed);
    }
}

impl Drop for RunningRequest {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Relaxed);
    }
}

/// One customer of a network has a whole /64 of IPv6 (RFC 6177).
pub(crate) fn bucket(address: IpAddr) -> IpAddr {
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
        let limiter = Arc::<ConnectionLimiter>::default();
        let first = limiter.acquire(2).unwrap();
        let second = limiter.acquire(2).unwrap();
        assert!(matches!(limiter.acquire(2), Err(Refusal::Connections)));
        assert_eq!(limiter.open(), 2);
        let here: IpAddr = "2001:db8::1".parse().unwrap();
        let neighbour: IpAddr = "2001:db8::ffff:2".parse().unwrap();
        assert_eq!(first.count_for(here, 1), Ok(()));
        assert_eq!(
            second.count_for(neighbour, 1),
            Err(Refusal::ConnectionsOfAddress)
        );
        let other: IpAddr = "2001:db8:0:1::1".parse().unwrap();
        assert_eq!(second.count_for(other, 1), Ok(()));
        drop((first, second));
        assert_eq!(limiter.open(), 0);
        assert!(limiter.addresses.lock().is_empty());
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        assert_eq!(bucket(mapped), "192.0.2.1".parse::<IpAddr>().unwrap());
    }
}
