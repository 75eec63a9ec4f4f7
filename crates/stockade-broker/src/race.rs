//! Connections to whichever of several checked addresses answers first.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::net::TcpStream;

/// After this time without an answer the next address is tried as well (RFC 8305, 5).
const STAGGER: Duration = Duration::from_millis(250);
/// Addresses that are tried; all were checked.
pub(crate) const MOST_TRIED: usize = 6;

/// Connects to one of `addresses`, over the system's network.
pub(crate) async fn race(addresses: &[IpAddr], port: u16) -> io::Result<TcpStream> {
    let connected = race_by(addresses, port, TcpStream::connect).await;
    connected.map(|(stream, _)| stream)
}

/// Tries addresses one after another without waiting long for each. The last error, if all fail.
pub(crate) async fn race_by<S, C>(
    addresses: &[IpAddr],
    port: u16,
    connect: impl Fn(SocketAddr) -> C,
) -> io::Result<(S, SocketAddr)>
where
    C: Future<Output = io::Result<S>>,
{
    let connect = |address| {
        let connecting = connect(address);
        async move { connecting.await.map(|stream| (stream, address)) }
    };
    let mut rest = addresses
        .iter()
        .take(MOST_TRIED)
        .map(|&ip| SocketAddr::new(ip, port));
    let mut trying = FuturesUnordered::new();
    trying.extend(rest.next().map(connect));
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        tokio::select! {
            done = trying.next() => match done {
                Some(Ok(connected)) => return Ok(connected),
                Some(Err(error)) => {
                    last = error;
                    match rest.next() {
                        Some(address) => trying.push(connect(address)),
                        None if trying.is_empty() => return Err(last),
                        None => {}
                    }
                }
                None => return Err(last),
            },
            () = tokio::time::sleep(STAGGER) => {
                trying.extend(rest.next().map(connect));
            }
        }
    }
}
