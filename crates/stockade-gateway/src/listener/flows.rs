//! Datagrams of clients over UDP: those of one address and port are a flow, which a handler gets as a connection.
//!
//! The bytes of such a connection are datagrams, each as its length in two bytes, the higher one first, and its data.
//!
//! Invariants:
//! 1. What is stored for clients is bounded: flows of the listener, and those of one client address as its connections.
//!    Nothing is stored for a datagram that has no flow.
//! 2. The datagrams that wait are bounded in each flow by number, and by bytes for each client address and in all of the
//!    listener. Further ones are dropped, as a network drops them.
//! 3. A flow sends only to its own address, and at most `amplification` bytes for each byte that came from there, because
//!    the source of a datagram can be forged.
//! 4. A flow ends with its listener.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt as _};
use parking_lot::Mutex;
use stockade_limits::RateLimiter;
use tokio::io::{DuplexStream, ReadHalf, WriteHalf};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};

use crate::access::Refusal;
use crate::listener::connection_limits::bucket;

/// Bytes of the largest datagram over IPv4 (RFC 768, with the headers of RFC 791 and its own).
const MOST_DATAGRAM_BYTES: usize = 65_507;

/// What a datagram costs on the wire besides its data: the headers of IPv4 and UDP.
const HEADERS: u64 = 28;

/// Datagrams of one flow that wait for its handler.
const QUEUE: usize = 64;

/// Bytes of datagrams of one client address that wait for handlers.
const ADDRESS_BYTES: usize = 1 << 20;

/// Bytes of datagrams of all flows of a listener that wait for handlers.
const QUEUE_BYTES: usize = 16 << 20;

/// Bytes of a flow that are on their way to its handler besides those, and back.
const BUFFER: usize = 64 << 10;

/// How long receiving rests after an error of the socket.
const REST: Duration = Duration::from_millis(100);

/// What clients may take of a listener for datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatagramLimits {
    /// Flows at the same time. Datagrams of further ones are dropped.
    pub flows: usize,
    /// Datagrams per second of one client address (IPv6: one /64), with a second's worth at once. Further ones are
    /// dropped.
    pub per_second: NonZeroU32,
    /// Bytes that are sent to a client for each byte that it sent, both with the headers of IPv4 and UDP. Datagrams above
    /// that are dropped.
    pub amplification: u32,
}

impl Default for DatagramLimits {
    fn default() -> Self {
        Self {
            flows: 1000,
            per_second: NonZeroU32::new(1000).unwrap_or(NonZeroU32::MIN),
            amplification: 3,
        }
    }
}

/// The flows of one listener.
pub(crate) struct Flows {
    socket: UdpSocket,
    table: Mutex<Table>,
    /// Bytes that wait, of all flows.
    waiting: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Table {
    flows: HashMap<SocketAddr, Entry>,
    addresses: HashMap<IpAddr, Address>,
}

struct Entry {
    datagrams: mpsc::Sender<Waiting>,
    /// Bytes that wait, of its client address.
    waiting: Arc<AtomicUsize>,
    allowance: Arc<Allowance>,
}

/// A client address that has flows.
struct Address {
    flows: usize,
    rate: RateLimiter,
    waiting: Arc<AtomicUsize>,
}

/// Bytes that may be sent to an address.
struct Allowance {
    left: AtomicU64,
    amplification: u64,
}

impl Allowance {
    fn earn(&self, length: usize) {
        let more = (length as u64 + HEADERS).saturating_mul(self.amplification);
        let add = |left: u64| Some(left.saturating_add(more));
        let _ = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// Takes what a datagram costs; false where it is not there.
    fn spend(&self, length: usize) -> bool {
        let cost = length as u64 + HEADERS;
        let take = |left: u64| left.checked_sub(cost);
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
    }
}

/// A datagram that waits for its handler, counted until it is dropped.
struct Waiting {
    data: Bytes,
    _counts: [Counted; 2],
}

/// Bytes that are counted until this is dropped.
struct Counted {
    bytes: usize,
    count: Arc<AtomicUsize>,
}

impl Counted {
    /// Counts bytes, where no more than `most` are counted then.
    fn new(bytes: usize, count: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        let counted = Self {
            bytes,
            count: Arc::clone(count),
        };
        let before = count.fetch_add(bytes, Ordering::Relaxed);
        (before + bytes <= most).then_some(counted)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.count.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A flow that has begun.
pub(crate) struct Flow {
    /// Where its datagrams come from.
    pub(crate) peer: SocketAddr,
    flows: Weak<Flows>,
    datagrams: mpsc::Receiver<Waiting>,
    allowance: Arc<Allowance>,
}

impl Flows {
    pub(crate) fn new(socket: UdpSocket) -> Self {
        Self {
            socket,
            table: Mutex::default(),
            waiting: Arc::default(),
        }
    }

    /// Receives datagrams until it is dropped. `limits` gives those of the moment, `begin` is called with each new flow
    /// and gives why there is to be none, `refused` with why a datagram was dropped.
    pub(crate) async fn receive(
        self: Arc<Self>,
        limits: impl Fn() -> DatagramLimits,
        begin: impl Fn(Flow) -> Result<(), Refusal>,
        refused: impl Fn(Refusal, SocketAddr),
    ) {
        let mut buffer = vec![0; MOST_DATAGRAM_BYTES];
        loop {
            match self.socket.recv_from(&mut buffer).await {
                Ok((length, peer)) => {
                    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                    let data = buffer.get(..length).unwrap_or_default();
                    if let Err(refusal) = self.take(data, peer, limits(), &begin) {
                        refused(refusal, peer);
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "receiving datagrams rests for a moment");
                    tokio::time::sleep(REST).await;
                }
            }
        }
    }

    /// Gives a datagram to its flow, which may begin with it.
    fn take(
        self: &Arc<Self>,
        data: &[u8],
        peer: SocketAddr,
        limits: DatagramLimits,
        begin: &impl Fn(Flow) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        // Nothing can be sent to such a port (RFC 768).
        if peer.port() == 0 {
            return Err(Refusal::DatagramSource);
        }
        let mut table = self.table.lock();
        let Table { flows, addresses } = &mut *table;
        let address = bucket(peer.ip());
        if let Some(known) = addresses.get_mut(&address)
            && known.rate.try_take(1, Instant::now()).is_err()
        {
            return Err(Refusal::DatagramRate);
        }
        if let Some(entry) = flows.get(&peer) {
            return self.give(entry, data);
        }

        // A flow begins, if there is room for it.
        if flows.len() >= limits.flows {
            return Err(Refusal::Connections);
        }
        let (sender, datagrams) = mpsc::channel(QUEUE);
        let allowance = Arc::new(Allowance {
            left: AtomicU64::new(0),
            amplification: limits.amplification.into(),
        });
        let of_address = addresses.get(&address).map(|known| &known.waiting);
        let waiting = of_address.map(Arc::clone).unwrap_or_default();
        let entry = Entry {
            datagrams: sender,
            waiting: Arc::clone(&waiting),
            allowance: Arc::clone(&allowance),
        };
        self.give(&entry, data)?;
        let known = addresses.entry(address).or_insert_with(|| {
            let mut rate = RateLimiter::new(limits.per_second.into(), Duration::from_secs(1));
            rate.take(1, Instant::now());
            Address {
                flows: 0,
                rate,
                waiting,
            }
        });
        known.flows += 1;
        flows.insert(peer, entry);
        // What is refused is dropped, and takes itself out of the table again.
        drop(table);
        begin(Flow {
            peer,
            flows: Arc::downgrade(self),
            datagrams,
            allowance,
        })
    }

    fn give(&self, entry: &Entry, data: &[u8]) -> Result<(), Refusal> {
        let length = data.len();
        // Also what is dropped here came from there.
        entry.allowance.earn(length);
        let full = Refusal::DatagramQueue;
        let place = entry.datagrams.try_reserve().map_err(|_| full)?;
        let of_address = Counted::new(length, &entry.waiting, ADDRESS_BYTES).ok_or(full)?;
        let of_all = Counted::new(length, &self.waiting, QUEUE_BYTES).ok_or(full)?;
        place.send(Waiting {
            data: Bytes::copy_from_slice(data),
            _counts: [of_address, of_all],
        });
        Ok(())
    }

    fn forget(&self, peer: SocketAddr) {
        let mut table = self.table.lock();
        let Table { flows, addresses } = &mut *table;
        flows.remove(&peer);
        let address = bucket(peer.ip());
        if let Some(known) = addresses.get_mut(&address) {
            known.flows -= 1;
            if known.flows == 0 {
                addresses.remove(&address);
            }
        }
        if flows.capacity() > 1024 && flows.len() < flows.capacity() / 8 {
            flows.shrink_to_fit();
            addresses.shrink_to_fit();
        }
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        if let Some(flows) = self.flows.upgrade() {
            flows.forget(self.peer);
        }
    }
}

impl Flow {
    /// The stream of its datagrams, and what carries them between it and the socket until the stream is dropped.
    pub(crate) fn open(
        self,
        refused: impl Fn(Refusal),
    ) -> (DuplexStream, impl Future<Output = ()>) {
        let (ours, theirs) = tokio::io::duplex(BUFFER);
        let carried = async move {
            let (reader, writer) = tokio::io::split(ours);
            if let Err(error) = self.carry(reader, writer, refused).await {
                tracing::debug!(%error, "a flow of datagrams ended");
            }
        };
        (theirs, carried)
    }

    async fn carry(
        mut self,
        reader: ReadHalf<DuplexStream>,
        writer: WriteHalf<DuplexStream>,
        refused: impl Fn(Refusal),
    ) -> io::Result<()> {
        let codec = LengthDelimitedCodec::builder()
            .length_field_length(2)
            .max_frame_length(MOST_DATAGRAM_BYTES)
            .new_codec();
        let mut from_handler = FramedRead::new(reader, codec.clone());
        let mut to_handler = FramedWrite::new(writer, codec);
        let (mut listens, mut sends) = (true, true);
        let (flows, peer) = (self.flows.clone(), self.peer);
        let allowance = Arc::clone(&self.allowance);
        // The two directions are polled apart: a handler that does not read can still send.
        let receiving = async {
            while let Some(waiting) = self.datagrams.recv().await {
                to_handler.send(waiting.data.clone()).await?;
            }
            // The listener is gone.
            SinkExt::<Bytes>::close(&mut to_handler).await
        };
        let sending = async {
            while let Some(data) = from_handler.next().await {
                send(&flows, &allowance, &data?, peer, &refused).await?;
            }
            io::Result::Ok(())
        };
        let (mut receiving, mut sending) = (std::pin::pin!(receiving), std::pin::pin!(sending));
        while listens || sends {
            tokio::select! {
                done = &mut receiving, if listens => {
                    done?;
                    listens = false;
                }
                done = &mut sending, if sends => {
                    done?;
                    sends = false;
                }
            }
        }
        Ok(())
    }
}

/// Sends a datagram, or drops it where its address has not sent enough.
async fn send(
    flows: &Weak<Flows>,
    allowance: &Allowance,
    data: &BytesMut,
    peer: SocketAddr,
    refused: &impl Fn(Refusal),
) -> io::Result<()> {
    let Some(flows) = flows.upgrade() else {
        return Err(io::ErrorKind::NotConnected.into());
    };
    if !allowance.spend(data.len()) {
        refused(Refusal::Amplification);
        return Ok(());
    }
    match flows.socket.try_send_to(data, peer) {
        Ok(_) => Ok(()),
        // The network takes no more at this moment. Waiting here would keep the address of a listener that is gone.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            drop(flows);
            tokio::task::yield_now().await;
            Ok(())
        }
        // The network, about this datagram alone, such as one that is too long for it.
        Err(error) => {
            tracing::debug!(%error, "a datagram was not sent");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allowance_gives_a_multiple_of_what_came() {
        let allowance = Allowance {
            left: AtomicU64::new(0),
            amplification: 3,
        };
        assert!(!allowance.spend(0));
        // 3 * (10 + 28) = 114 = 86 + 28
        allowance.earn(10);
        assert!(!allowance.spend(87));
        assert!(allowance.spend(86));
        assert!(!allowance.spend(0));
    }

    #[tokio::test]
    async fn take_bounds_flows_rates_and_what_waits() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let flows = Arc::new(Flows::new(socket));
        let begun = Mutex::new(Vec::new());
        let begin = |flow| {
            begun.lock().push(flow);
            Ok(())
        };
        let limits = DatagramLimits {
            flows: 2,
            per_second: NonZeroU32::new(100).unwrap(),
            amplification: 1,
        };
        let from = |text: &str| text.parse::<SocketAddr>().unwrap();
        let take = |peer: &str, data: &[u8]| flows.take(data, from(peer), limits, &begin);
        assert_eq!(take("192.0.2.1:0", b"a"), Err(Refusal::DatagramSource));
        assert_eq!(take("192.0.2.1:1", b"a"), Ok(()));
        assert_eq!(take("192.0.2.1:1", b"b"), Ok(()));
        assert_eq!(take("192.0.2.2:1", b"c"), Ok(()));
        assert_eq!(take("192.0.2.3:1", b"d"), Err(Refusal::Connections));
        assert_eq!(begun.lock().len(), 2);
        // As many as may wait; the others are dropped, and those over the rate before that.
        let more: Vec<_> = (0..300).map(|_| take("192.0.2.1:1", b"e")).collect();
        assert_eq!(more.iter().filter(|taken| taken.is_ok()).count(), QUEUE - 2);
        assert!(more.contains(&Err(Refusal::DatagramQueue)));
        assert!(more.contains(&Err(Refusal::DatagramRate)));
        assert!(flows.waiting.load(Ordering::Relaxed) > 0);
        // A flow that ends makes room, and its datagrams count no more.
        begun.lock().clear();
        assert_eq!(flows.waiting.load(Ordering::Relaxed), 0);
        assert!(flows.table.lock().addresses.is_empty());
        assert_eq!(take("192.0.2.3:1", b"d"), Ok(()));
        // One that is refused leaves nothing.
        begun.lock().clear();
        let refuse = |_| Err(Refusal::ConnectionsOfAddress);
        let taken = flows.take(b"f", from("192.0.2.4:1"), limits, &refuse);
        assert_eq!(taken, Err(Refusal::ConnectionsOfAddress));
        assert!(flows.table.lock().flows.is_empty());
    }

    #[tokio::test]
    async fn queue_of_all_flows_is_bounded_in_bytes() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let flows = Arc::new(Flows::new(socket));
        let begun = Mutex::new(Vec::new());
        let begin = |flow| {
            begun.lock().push(flow);
            Ok(())
        };
        let data = vec![0; 60_000];
        let limits = DatagramLimits::default();
        let take = |host: u8, port| {
            let peer = SocketAddr::from(([192, 0, 2, host], port));
            flows.take(&data, peer, limits, &begin)
        };
        // Of one address, however many ports it has; another one has room.
        let taken = (1..=100).filter(|&port| take(1, port).is_ok()).count();
        assert_eq!(taken, ADDRESS_BYTES / data.len());
        for host in 2..=100 {
            for port in 1..=5 {
                let _ = take(host, port);
            }
        }
        assert_eq!(begun.lock().len(), QUEUE_BYTES / data.len());
        assert!(flows.waiting.load(Ordering::Relaxed) <= QUEUE_BYTES);
        begun.lock().clear();
        assert_eq!(flows.waiting.load(Ordering::Relaxed), 0);
    }
}
