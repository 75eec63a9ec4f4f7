//! Clients that send datagrams: each address is a connection of its own, within bounds.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{SinkExt as _, StreamExt as _};
use stockade_gateway::{
    Address, ByteStream, DatagramLimits, Gateway, Limits, Listener, Observer, Refusal, RouteTable,
    StreamConnection, StreamHandler, StreamTarget, Transport,
};
use tokio::net::UdpSocket;
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use crate::harness::{Log, listener, soon};

/// What a target has of one client.
type Datagrams = Framed<Box<dyn ByteStream>, LengthDelimitedCodec>;

struct Takes<F>(F);

impl<F> StreamTarget for Takes<F>
where
    F: Fn(SocketAddr, Datagrams) -> BoxFuture<'static, ()> + Send + Sync + 'static,
{
    fn carry(&self, connection: StreamConnection) -> BoxFuture<'static, ()> {
        assert_eq!(connection.transport, Transport::Datagrams);
        let codec = LengthDelimitedCodec::builder()
            .length_field_length(2)
            .new_codec();
        (self.0)(connection.peer, Framed::new(connection.stream, codec))
    }
}

/// Sends back what it receives, until that is `end`.
fn echo(_: SocketAddr, mut datagrams: Datagrams) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        while let Some(Ok(data)) = datagrams.next().await {
            if data == "end" || datagrams.send(data.freeze()).await.is_err() {
                return;
            }
        }
    })
}

fn udp<F>(limits: DatagramLimits, target: F) -> Listener
where
    F: Fn(SocketAddr, Datagrams) -> BoxFuture<'static, ()> + Send + Sync + 'static,
{
    Listener {
        address: Address::Udp(([127, 0, 0, 1], 0).into()),
        streams: Some(StreamHandler(Arc::new(Takes(target)))),
        datagrams: limits,
        ..listener()
    }
}

async fn start(listener: Listener, limits: Limits) -> (Gateway, SocketAddr, Arc<Log>) {
    let log = Arc::<Log>::default();
    let observer: Arc<dyn Observer> = log.clone();
    let gateway = Gateway::start(vec![listener], RouteTable::default(), limits, observer);
    let gateway = gateway.await.unwrap();
    let (_, address) = gateway.addresses().remove(0);
    let Address::Udp(address) = address else {
        panic!("not UDP: {address}")
    };
    (gateway, address, log)
}

async fn client(to: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(to).await.unwrap();
    socket
}

async fn receive(client: &UdpSocket) -> Vec<u8> {
    let mut data = vec![0; 70_000];
    let length = soon(client.recv(&mut data)).await.unwrap();
    data.truncate(length);
    data
}

#[tokio::test]
async fn datagrams_of_an_address_are_a_connection_of_its_own() {
    let (gateway, address, log) =
        start(udp(DatagramLimits::default(), echo), Limits::default()).await;
    let (first, second) = (client(address).await, client(address).await);
    for data in [&b"one"[..], b"", &[7; 60_000]] {
        first.send(data).await.unwrap();
        assert_eq!(receive(&first).await, data);
    }
    second.send(b"two").await.unwrap();
    assert_eq!(receive(&second).await, b"two");
    assert_eq!(gateway.stats().connections, 2);
    // One that ends begins again with the next datagram.
    first.send(b"end").await.unwrap();
    log.until(|recorded| recorded.closed == 1).await;
    assert_eq!(gateway.stats().connections, 1);
    first.send(b"again").await.unwrap();
    assert_eq!(receive(&first).await, b"again");
}

#[tokio::test]
async fn target_sends_no_more_than_a_multiple_of_what_came() {
    let flood = |_, mut datagrams: Datagrams| -> BoxFuture<'static, ()> {
        Box::pin(async move {
            while let Some(Ok(_)) = datagrams.next().await {
                for _ in 0..50 {
                    let data = Bytes::from_static(&[1; 72]);
                    if datagrams.send(data).await.is_err() {
                        return;
                    }
                }
            }
        })
    };
    let (_gateway, address, log) =
        start(udp(DatagramLimits::default(), flood), Limits::default()).await;
    let client = client(address).await;
    // 3 times 100 bytes and 28 of headers are three datagrams of 72 bytes and 28, and 84 bytes that are left.
    client.send(&[0; 100]).await.unwrap();
    let refused = |count: usize| {
        move |recorded: &crate::harness::Recorded| {
            let of_this = |refusal: &&Refusal| **refusal == Refusal::Amplification;
            recorded.refusals.iter().filter(of_this).count() == count
        }
    };
    log.until(refused(47)).await;
    for _ in 0..3 {
        assert_eq!(receive(&client).await.len(), 72);
    }
    assert!(client.try_recv(&mut [0; 100]).is_err());
    // 84 more for an empty one, with which there is room for one datagram.
    client.send(&[]).await.unwrap();
    log.until(refused(47 + 49)).await;
    assert_eq!(receive(&client).await.len(), 72);
    assert!(client.try_recv(&mut [0; 100]).is_err());
}

#[tokio::test]
async fn flows_and_datagrams_beyond_the_bounds_are_dropped() {
    // Reads nothing of a client that says so.
    let target = |peer, mut datagrams: Datagrams| -> BoxFuture<'static, ()> {
        Box::pin(async move {
            match datagrams.next().await {
                Some(Ok(data)) if data == "hold" => std::future::pending().await,
                Some(Ok(data)) => {
                    let _ = datagrams.send(data.freeze()).await;
                    echo(peer, datagrams).await;
                }
                _ => {}
            }
        })
    };
    let limits = DatagramLimits {
        flows: 2,
        per_second: NonZeroU32::new(1_000_000).unwrap(),
        amplification: 3,
    };
    let (gateway, address, log) = start(udp(limits, target), Limits::default()).await;
    let (held, other, third) = (
        client(address).await,
        client(address).await,
        client(address).await,
    );
    held.send(b"hold").await.unwrap();
    other.send(b"here").await.unwrap();
    assert_eq!(receive(&other).await, b"here");
    third.send(b"there").await.unwrap();
    log.until(|recorded| recorded.refusals == [Refusal::Connections])
        .await;
    // More than may wait for a handler that does not read: the others are dropped, and another client is served.
    let mut sent = 0;
    while !log.now().refusals.contains(&Refusal::DatagramQueue) {
        assert!(sent < 10_000, "all of them wait");
        held.send(&[0; 1000]).await.unwrap();
        sent += 1;
        tokio::task::yield_now().await;
    }
    other.send(b"still").await.unwrap();
    assert_eq!(receive(&other).await, b"still");
    // A place is free once a flow has ended.
    other.send(b"end").await.unwrap();
    log.until(|recorded| recorded.closed == 1).await;
    third.send(b"there").await.unwrap();
    assert_eq!(receive(&third).await, b"there");
    assert_eq!(gateway.stats().connections, 2);
}

#[tokio::test]
async fn address_that_sends_too_fast_or_from_many_ports_is_held_back() {
    let limits = DatagramLimits {
        per_second: NonZeroU32::new(5).unwrap(),
        ..DatagramLimits::default()
    };
    let (_gateway, address, log) = start(udp(limits, echo), Limits::default()).await;
    let first = client(address).await;
    first.send(b"1").await.unwrap();
    assert_eq!(receive(&first).await, b"1");
    for _ in 0..100 {
        first.send(b"more").await.unwrap();
    }
    log.until(|recorded| recorded.refusals.contains(&Refusal::DatagramRate))
        .await;

    let limits = Limits {
        connections_per_address: 2,
        ..Limits::default()
    };
    let (_gateway, address, log) = start(udp(DatagramLimits::default(), echo), limits).await;
    let clients = [
        client(address).await,
        client(address).await,
        client(address).await,
    ];
    for client in &clients[..2] {
        client.send(b"in").await.unwrap();
        assert_eq!(receive(client).await, b"in");
    }
    clients[2].send(b"out").await.unwrap();
    log.until(|recorded| recorded.refusals == [Refusal::ConnectionsOfAddress])
        .await;
}

#[tokio::test]
async fn flows_end_with_their_listener_which_gives_its_address_back() {
    let (gateway, address, log) =
        start(udp(DatagramLimits::default(), echo), Limits::default()).await;
    let client = client(address).await;
    client.send(b"before").await.unwrap();
    assert_eq!(receive(&client).await, b"before");
    // The same address in another listener keeps its socket and its flows.
    let same = Listener {
        address: Address::Udp(address),
        ..udp(DatagramLimits::default(), echo)
    };
    let reload = gateway.reload(vec![same], RouteTable::default(), Limits::default());
    reload.await.unwrap();
    client.send(b"between").await.unwrap();
    assert_eq!(receive(&client).await, b"between");
    let reload = gateway.reload(Vec::new(), RouteTable::default(), Limits::default());
    reload.await.unwrap();
    log.until(|recorded| recorded.closed == 1).await;
    UdpSocket::bind(address).await.unwrap();
}
