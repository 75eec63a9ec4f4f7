//! The header that proxies put before a connection's first byte (HAProxy's PROXY protocol, versions 1
//! and 2), to say who the client is.

use std::io;
use std::net::SocketAddr;

use bytes::{Buf, BytesMut};
use ppp::{v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::listener::stream::PlainStream;

/// Bytes of the longest header of version 1, with its line end.
const V1_LENGTH: usize = 107;
const V1_PREFIX: &[u8] = b"PROXY ";
/// Signature, version and command, family and protocol, length.
const V2_START: usize = 16;
/// Addresses and additions that a version 2 header may have. Proxies send less than 600 bytes.
const V2_LENGTH: usize = 4096;

/// Why a connection is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyError {
    #[error("there is no PROXY header")]
    Missing,
    #[error("the PROXY header is malformed")]
    Malformed,
    #[error("reading the PROXY header failed: {0}")]
    Io(#[from] io::Error),
}

/// Who opened the connection to the proxy, by its header.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ConnectionSource {
    /// A client with this address.
    Client(SocketAddr),
    /// The proxy itself, such as for a health check, or a client that the header does not name.
    Proxy,
}

/// Takes the header off the stream. Returns the client's address if the header has it.
pub(crate) async fn take_header(
    io: &mut PlainStream,
    required: bool,
) -> Result<Option<SocketAddr>, ProxyError> {
    let mut bytes = BytesMut::with_capacity(512);
    let result = read_header(io, &mut bytes).await;
    let client = match result {
        Ok((source, length)) => {
            bytes.advance(length);
            match source {
                ConnectionSource::Client(address) => Some(address),
                ConnectionSource::Proxy => None,
            }
        }
        Err(ProxyError::Missing) if !required => None,
        Err(error) => return Err(error),
    };
    io.put_back(bytes.freeze());
    Ok(client)
}

async fn read_header<R: AsyncRead + Unpin>(
    io: &mut R,
    bytes: &mut BytesMut,
) -> Result<(ConnectionSource, usize), ProxyError> {
    loop {
        if io.read_buf(bytes).await? == 0 {
            return Err(ProxyError::Missing);
        }
        if let Some(found) = parse(bytes)? {
            return Ok(found);
        }
        bytes.reserve(512);
    }
}

/// Parses the header at the start of `bytes`, and returns its length too; none while it is incomplete.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(ConnectionSource, usize)>, ProxyError> {
    if begins(bytes, V1_PREFIX) {
        let Some(end) = bytes.iter().take(V1_LENGTH).position(|byte| *byte == b'\n') else {
            return if bytes.len() < V1_LENGTH {
                Ok(None)
            } else {
                Err(ProxyError::Malformed)
            };
        };
        let line = bytes.get(..=end).unwrap_or_default();
        let header = v1::Header::try_from(line).map_err(|_| ProxyError::Malformed)?;
        let source = match header.addresses {
            v1::Addresses::Unknown => ConnectionSource::Proxy,
            v1::Addresses::Tcp4(ip) => {
                ConnectionSource::Client(SocketAddr::new(ip.source_address.into(), ip.source_port))
            }
            v1::Addresses::Tcp6(ip) => {
                ConnectionSource::Client(SocketAddr::new(ip.source_address.into(), ip.source_port))
            }
        };
        return Ok(Some((source, end + 1)));
    }
    if !begins(bytes, v2::PROTOCOL_PREFIX) {
        return Err(ProxyError::Missing);
    }
    let Some([.., high, low]) = bytes.first_chunk::<V2_START>() else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if length > V2_LENGTH {
        return Err(ProxyError::Malformed);
    }
    let length = V2_START + length;
    let Some(whole) = bytes.get(..length) else {
        return Ok(None);
    };
    let header = v2::Header::try_from(whole).map_err(|_| ProxyError::Malformed)?;
    let source = match (header.command, header.addresses) {
        (v2::Command::Local, _) => ConnectionSource::Proxy,
        (v2::Command::Proxy, v2::Addresses::IPv4(ip)) => {
            ConnectionSource::Client(SocketAddr::new(ip.source_address.into(), ip.source_port))
        }
        (v2::Command::Proxy, v2::Addresses::IPv6(ip)) => {
            ConnectionSource::Client(SocketAddr::new(ip.source_address.into(), ip.source_port))
        }
        (v2::Command::Proxy, _) => ConnectionSource::Proxy,
    };
    Ok(Some((source, length)))
}

/// Whether `bytes` are a header by their beginning, as far as they go.
fn begins(bytes: &[u8], prefix: &[u8]) -> bool {
    let length = bytes.len().min(prefix.len());
    bytes.get(..length) == prefix.get(..length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(family: u8, command: u8, addresses: &[u8]) -> Vec<u8> {
        let mut bytes = v2::PROTOCOL_PREFIX.to_vec();
        bytes.extend([0x20 | command, family]);
        bytes.extend(u16::try_from(addresses.len()).unwrap().to_be_bytes());
        bytes.extend(addresses);
        bytes
    }

    #[test]
    fn header_names_the_client() {
        let check = |header: &[u8], client: Option<&str>| {
            for end in 1..header.len() {
                assert!(
                    matches!(parse(&header[..end]), Ok(None)),
                    "{header:?} at {end}"
                );
            }
            let source = client.map_or(ConnectionSource::Proxy, |client| {
                ConnectionSource::Client(client.parse().unwrap())
            });
            let mut followed = header.to_vec();
            followed.extend(b"GET / HTTP/1.1\r\n");
            assert_eq!(parse(&followed).unwrap(), Some((source, header.len())));
        };
        check(
            b"PROXY TCP4 192.0.2.1 10.0.0.1 4000 80\r\n",
            Some("192.0.2.1:4000"),
        );
        check(
            b"PROXY TCP6 2001:db8::1 ::1 4000 80\r\n",
            Some("[2001:db8::1]:4000"),
        );
        check(b"PROXY UNKNOWN\r\n", None);
        check(b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None);
        let four = [192, 0, 2, 1, 10, 0, 0, 1, 0x0f, 0xa0, 0, 80];
        check(&v2(0x11, 1, &four), Some("192.0.2.1:4000"));
        check(&v2(0x11, 0, &four), None);
        check(&v2(0, 0, &[]), None);
        let mut more = four.to_vec();
        more.extend([4, 0, 1, 0]);
        check(&v2(0x11, 1, &more), Some("192.0.2.1:4000"));
        let mut six = vec![0; 36];
        six[15] = 1;
        six[33] = 7;
        check(&v2(0x21, 1, &six), Some("[::1]:7"));
        check(&v2(0x31, 1, &[0; 216]), None);
        check(&v2(0x31, 1, &[0; 220]), None);
    }

    #[test]
    fn header_that_is_none_is_refused() {
        let missing = |bytes: &[u8]| {
            assert!(
                matches!(parse(bytes), Err(ProxyError::Missing)),
                "{bytes:?}"
            );
        };
        missing(b"GET / HTTP/1.1\r\n");
        missing(b"POST");
        missing(b"PRI");
        missing(b"\r\n\r\nGET");
        missing(&[0x16, 3, 1]);
        let malformed = |bytes: &[u8]| {
            assert!(
                matches!(parse(bytes), Err(ProxyError::Malformed)),
                "{bytes:?}"
            );
        };
        malformed(b"PROXY \r\n");
        malformed(b"PROXY TCP4 1.2.3.4\r\n");
        malformed(b"PROXY TCP4 1.2.3.4 1.2.3.4 1 99999\r\n");
        malformed(b"PROXY TCP4 ::1 ::1 1 2\r\n");
        malformed(b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n");
        malformed(&[b"PROXY ".as_slice(), &[b'a'; 200]].concat());
        malformed(&v2(0x11, 1, &[1, 2, 3]));
        malformed(&v2(0x31, 1, &[0; 100]));
        malformed(&v2(0x11, 9, &[0; 12]));
        malformed(&v2(0x11, 1, &[0; 5000]));
    }
}
