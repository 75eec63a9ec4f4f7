//! Tunnels to a real peer, wireguard-go in a network namespace, with real servers behind it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod rig;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use rig::Rig;
use stockade_wireguard::{Tunnel, TunnelLimits, parse};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const LIMITS: TunnelLimits = TunnelLimits {
    connections: 16,
    buffer: 256 << 10,
    handshakes: 50,
};

fn tunnel(rig: &Rig, limits: TunnelLimits) -> Arc<Tunnel> {
    let config = parse(&rig.file()).unwrap().config;
    let resolve = Arc::new(|_| Box::pin(async { None }) as _);
    Arc::new(Tunnel::new(config, limits, resolve).unwrap())
}

async fn echo(tunnel: &Tunnel, to: IpAddr, bytes: usize) {
    let stream = tunnel.connect(SocketAddr::new(to, 7)).await.unwrap();
    let sent: Vec<u8> = (0..bytes).map(|at| (at % 251) as u8).collect();
    let (mut read, mut write) = tokio::io::split(stream);
    let writing = async {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let mut received = Vec::new();
    let reading = read.read_to_end(&mut received);
    let (_, read) = tokio::join!(writing, reading);
    read.unwrap();
    assert!(received == sent, "{} of {bytes} bytes", received.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_of_both_kinds_of_addresses_carry_bytes() {
    let Some(rig) = Rig::start() else { return };
    let tunnel = tunnel(&rig, LIMITS);
    for version in [4, 6] {
        echo(&tunnel, rig.inside(version), 10).await;
        echo(&tunnel, rig.inside(version), 3 << 20).await;
    }
    // What the other end counts is what was sent.
    let transfer = rig.show("transfer");
    let received: u64 = transfer.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(received > 6 << 20, "{transfer}");
    assert!(tunnel.peers()[0].since_handshake.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn datagrams_come_back_and_large_ones_are_refused() {
    let Some(rig) = Rig::start() else { return };
    let tunnel = tunnel(&rig, LIMITS);
    for version in [4, 6] {
        let to = SocketAddr::new(rig.inside(version), 7);
        let socket = tunnel.datagrams(to.ip()).unwrap();
        let send = |data: Vec<u8>| {
            let socket = &socket;
            async move { std::future::poll_fn(|cx| socket.poll_send(cx, &data, to)).await }
        };
        send(b"ping".to_vec()).await.unwrap();
        let mut buffer = [0; 2048];
        let got = std::future::poll_fn(|cx| socket.poll_receive(cx, &mut buffer)).await;
        assert_eq!(got.unwrap(), (4, to));
        let error = send(vec![0; 1420]).await.unwrap_err();
        assert!(error.to_string().contains("at most"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_peer_has_is_not_reached() {
    let Some(rig) = Rig::start() else { return };
    let tunnel = tunnel(&rig, LIMITS);
    let outside: SocketAddr = format!("10.199.{}.2:7", rig.number).parse().unwrap();
    let error = tunnel.connect(outside).await.err().unwrap();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrNotAvailable);
    let closed = SocketAddr::new(rig.inside(4), 1);
    let error = tunnel.connect(closed).await.err().unwrap();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    echo(&tunnel, rig.inside(4), 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_beyond_the_limit_are_refused_until_one_ends() {
    let Some(rig) = Rig::start() else { return };
    let limits = TunnelLimits {
        connections: 2,
        ..LIMITS
    };
    let tunnel = tunnel(&rig, limits);
    let to = SocketAddr::new(rig.inside(4), 7);
    let (one, _two) = (
        tunnel.connect(to).await.unwrap(),
        tunnel.connect(to).await.unwrap(),
    );
    let error = tunnel.connect(to).await.err().unwrap();
    assert!(error.to_string().contains("2 connections"), "{error}");
    drop(one);
    tunnel.connect(to).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_left_end_at_the_other_end() {
    let Some(rig) = Rig::start() else { return };
    let tunnel = tunnel(&rig, LIMITS);
    let mut streams = Vec::new();
    for _ in 0..5 {
        let mut stream = tunnel
            .connect(SocketAddr::new(rig.inside(4), 7))
            .await
            .unwrap();
        stream.write_all(b"x").await.unwrap();
        stream.read_u8().await.unwrap();
        streams.push(stream);
    }
    // One has unread data, which ends it with a reset.
    streams[0].write_all(b"unread").await.unwrap();
    assert_eq!(rig.connections().lines().count(), 5);
    drop(streams);
    let ended = async {
        while !rig.connections().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), ended)
        .await
        .unwrap();
    // The same for a tunnel that ends before its connections.
    let mut stream = tunnel
        .connect(SocketAddr::new(rig.inside(4), 7))
        .await
        .unwrap();
    drop(tunnel);
    let read = stream.read(&mut [0]).await;
    assert_eq!(
        read.unwrap_err().kind(),
        std::io::ErrorKind::ConnectionReset
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_from_anyone_changes_nothing() {
    let Some(rig) = Rig::start() else { return };
    let tunnel = tunnel(&rig, LIMITS);
    echo(&tunnel, rig.inside(4), 10).await;
    // The port of the tunnel, as its peer sees it.
    let endpoints = rig.show("endpoints");
    let port = endpoints
        .trim()
        .rsplit(':')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let flood = std::thread::spawn(move || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let lengths = [0, 1, 3, 4, 32, 64, 92, 148, 1500, 9216, 60_000];
        for round in 0..3000u32 {
            let length = lengths[round as usize % lengths.len()];
            let mut data: Vec<u8> = (0..length).map(|at| (at as u32 * round) as u8).collect();
            if length >= 4 {
                let kind = 1 + round / 11 % 5;
                data[..4].copy_from_slice(&kind.to_le_bytes());
            }
            let _ = socket.send_to(&data, ("127.0.0.1", port));
        }
    });
    for _ in 0..20 {
        echo(&tunnel, rig.inside(4), 10_000).await;
    }
    flood.join().unwrap();
    echo(&tunnel, rig.inside(6), 1 << 20).await;
    assert_eq!(rig.show("endpoints"), endpoints);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peer_that_was_started_again_is_reached_again() {
    let Some(mut rig) = Rig::start() else { return };
    let tunnel = tunnel(&rig, LIMITS);
    echo(&tunnel, rig.inside(4), 10).await;
    // It has forgotten its sessions. The tunnel begins another one when it misses the answers.
    rig.stop_peer();
    rig.start_peer();
    echo(&tunnel, rig.inside(4), 10).await;
}

/// Prints what one connection carries, through the tunnel and without it. Run it with `--ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn throughput_through_the_tunnel_and_without_it() {
    const BYTES: u64 = 512 << 20;
    let Some(rig) = Rig::start() else { return };
    let tunnel = tunnel(&rig, LIMITS);
    async fn measure<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(
        what: &str,
        mut stream: S,
    ) {
        let began = std::time::Instant::now();
        stream.write_all(&BYTES.to_be_bytes()).await.unwrap();
        let mut buffer = vec![0; 1 << 16];
        let mut total = 0;
        while let Ok(length @ 1..) = stream.read(&mut buffer).await {
            total += length as u64;
        }
        assert_eq!(total, BYTES);
        let rate = BYTES as f64 / began.elapsed().as_secs_f64() / 1e6;
        println!("{what}: {rate:.0} MB/s");
    }
    let within = SocketAddr::new(rig.inside(4), 9);
    measure("through the tunnel", tunnel.connect(within).await.unwrap()).await;
    let outside = format!("10.199.{}.2:9", rig.number);
    measure(
        "plain TCP to the same server",
        tokio::net::TcpStream::connect(outside).await.unwrap(),
    )
    .await;
}
