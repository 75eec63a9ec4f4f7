//! Connections of TCP: how many there may be in all and from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use stockade_limits::network;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::bounds::{HTTP_CONNECTIONS, HTTP_CONNECTIONS_OF_ADDRESS};

/// Addresses of one client: it can have all of a /64 of IPv6.
const PREFIX: u8 = 64;

/// How many connections each address has.
type Counts = Arc<Mutex<HashMap<IpAddr, usize>>>;

pub(super) struct Sockets {
    all: Arc<Semaphore>,
    of_address: Counts,
}

/// The place of a connection, until it is dropped.
pub(super) struct Socket {
    _place: OwnedSemaphorePermit,
    counted: Option<(IpAddr, Counts)>,
}

impl Sockets {
    pub(super) fn new() -> Self {
        Self {
            all: Arc::new(Semaphore::new(HTTP_CONNECTIONS)),
            of_address: Arc::default(),
        }
    }

    /// Waits for a place for the next connection.
    pub(super) async fn place(&self) -> Option<Socket> {
        let place = Arc::clone(&self.all).acquire_owned().await.ok()?;
        Some(Socket {
            _place: place,
            counted: None,
        })
    }

    /// Counts a connection for its address; `None` if there are too many. Those of this machine count only in all: a proxy
    /// has all of its clients' connections there.
    pub(super) fn count(&self, mut socket: Socket, address: IpAddr) -> Option<Socket> {
        if address.to_canonical().is_loopback() {
            return Some(socket);
        }
        let address = network(address, PREFIX);
        let mut counts = self.of_address.lock();
        let count = counts.entry(address).or_default();
        if *count >= HTTP_CONNECTIONS_OF_ADDRESS {
            return None;
        }
        *count += 1;
        drop(counts);
        socket.counted = Some((address, Arc::clone(&self.of_address)));
        Some(socket)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let Some((address, counts)) = self.counted.take() else {
            return;
        };
        let mut counts = counts.lock();
        if let Some(count) = counts.get_mut(&address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn address_has_its_connections_and_no_more() {
        let sockets = Sockets::new();
        let from = async |address: &str| {
            let place = sockets.place().await.unwrap();
            sockets.count(place, address.parse().unwrap())
        };
        let mut open = Vec::new();
        for number in 0..HTTP_CONNECTIONS_OF_ADDRESS {
            open.push(from(&format!("2001:db8::{number:x}")).await.unwrap());
        }
        assert!(from("2001:db8::ffff").await.is_none());
        assert!(from("2001:db8:0:1::1").await.is_some());
        for _ in 0..=HTTP_CONNECTIONS_OF_ADDRESS {
            open.push(from("::1").await.unwrap());
        }
        drop(open);
        assert!(sockets.of_address.lock().is_empty());
        assert!(from("2001:db8::ffff").await.is_some());
    }
}
