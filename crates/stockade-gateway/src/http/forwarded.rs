//! Who a client is, when proxies stand between.
//!
//! Headers that speak for a proxy are believed only from peers that the operator trusts, and are written
//! by the gateway for the target: what a client made up never reaches it, and what the gateway writes no
//! client takes away.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::SystemTime;

use http::header::{FORWARDED, HeaderName};
use http::{HeaderMap, HeaderValue};
use ipnet::IpNet;
use stockade_http::{Client, Scheme};

use crate::http::headers;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Where Workers look for the client's address.
const CONNECTING_IP: HeaderName = HeaderName::from_static("cf-connecting-ip");

/// Headers by which proxies of some kind name the client, the host or the path that it asked for. None of
/// them passes as a client wrote it.
static OTHERS: [HeaderName; 19] = [
    FORWARDED,
    HeaderName::from_static("x-real-ip"),
    HeaderName::from_static("x-client-ip"),
    HeaderName::from_static("x-cluster-client-ip"),
    HeaderName::from_static("true-client-ip"),
    HeaderName::from_static("fastly-client-ip"),
    HeaderName::from_static("x-envoy-external-address"),
    HeaderName::from_static("x-original-host"),
    HeaderName::from_static("x-original-url"),
    HeaderName::from_static("x-rewrite-url"),
    HeaderName::from_static("x-scheme"),
    HeaderName::from_static("x-forwarded"),
    HeaderName::from_static("forwarded-for"),
    HeaderName::from_static("client-ip"),
    HeaderName::from_static("x-host"),
    HeaderName::from_static("x-http-host-override"),
    HeaderName::from_static("x-appengine-user-ip"),
    HeaderName::from_static("x-azure-clientip"),
    HeaderName::from_static("front-end-https"),
];

/// What every header begins with that a proxy in front of the gateway adds about a request.
const FORWARDED_PREFIX: &str = "x-forwarded-";

/// What every header begins with that Cloudflare's edge adds, such as `cf-ipcountry` and `cf-ray`, which Workers believe.
const EDGE_PREFIX: &str = "cf-";

/// Removes every header that says who a client is or what it asked for, as far as a sender could make it
/// up. That holds behind a trusted proxy, too: most proxies pass `cf-*` on as their own client wrote it.
pub fn remove_identity(headers: &mut HeaderMap) {
    headers::remove_those(headers, |name| {
        let text = name.as_str();
        OTHERS.contains(name)
            || *name == REQUEST_ID
            || text.starts_with(FORWARDED_PREFIX)
            || text.starts_with(EDGE_PREFIX)
    });
}

/// Writes who sent the request, and removes every header that claimed it before.
pub fn write_identity(headers: &mut HeaderMap, client: &Client) {
    remove_identity(headers);
    let address = address_text(client.address.ip());
    write(headers, address, client.https, &client.request_id);
}

/// An address as headers have it.
pub(crate) fn address_text(address: IpAddr) -> Option<HeaderValue> {
    HeaderValue::from_str(&address.to_canonical().to_string()).ok()
}

fn write(headers: &mut HeaderMap, address: Option<HeaderValue>, https: bool, request_id: &str) {
    if let Some(address) = address {
        headers.insert(FOR, address.clone());
        headers.insert(CONNECTING_IP, address);
    }
    let scheme = if https { Scheme::Https } else { Scheme::Http };
    headers.insert(PROTO, HeaderValue::from_static(scheme.as_str()));
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, id);
    }
}

/// What is known of a request's origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) client: SocketAddr,
    pub(crate) scheme: Scheme,
    pub(crate) request_id: Arc<str>,
}

/// Whether `address` is one of the proxies.
pub(crate) fn trusts(proxies: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    proxies.iter().any(|net| net.contains(&address))
}

impl Origin {
    /// Establishes it from the connection's peer and scheme, and from the headers where the peer is a
    /// trusted proxy. Then removes what is for this connection alone and what a sender could make up, and
    /// writes the gateway's own headers last: no name in `connection` takes one of those away. `peer_text` is the
    /// [`address_text`] of the peer.
    pub(crate) fn establish(
        peer: SocketAddr,
        peer_text: Option<&HeaderValue>,
        scheme: Scheme,
        proxies: &[IpNet],
        headers: &mut HeaderMap,
    ) -> Self {
        let mut client = peer;
        let mut scheme = scheme;
        let mut given = None;
        if !proxies.is_empty() && trusts(proxies, peer.ip()) {
            client = first_untrusted(headers, proxies).unwrap_or(peer);
            scheme = last_scheme(headers).unwrap_or(scheme);
            let id = headers.get(REQUEST_ID).filter(|id| is_request_id(id));
            given = id.and_then(|id| id.to_str().ok()).map(Arc::from);
        }
        let origin = Self {
            client,
            scheme,
            request_id: given.unwrap_or_else(request_id),
        };
        headers::remove_named_by_connection(headers);
        remove_identity(headers);
        let address = if client == peer {
            peer_text.cloned()
        } else {
            address_text(client.ip())
        };
        let https = origin.scheme == Scheme::Https;
        write(headers, address, https, &origin.request_id);
        origin
    }
}

/// Each proxy appends the address that it saw: from the end, the first one that is not a trusted proxy's is the
/// client's. Entries before one that cannot be parsed are ignored.
fn first_untrusted(headers: &HeaderMap, proxies: &[IpNet]) -> Option<SocketAddr> {
    let mut client = None;
    let lines: Vec<&HeaderValue> = headers.get_all(FOR).iter().collect();
    let entries = lines
        .iter()
        .rev()
        .flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    for entry in entries {
        let Some(address) = std::str::from_utf8(entry).ok().and_then(read_address) else {
            break;
        };
        client = Some(address);
        if !trusts(proxies, address.ip()) {
            break;
        }
    }
    client
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`.
fn read_address(text: &str) -> Option<SocketAddr> {
    let text = text.trim();
    let bracketed = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let (address, port) = match bracketed.unwrap_or(text).parse::<IpAddr>() {
        Ok(address) => (address, 0),
        Err(_) => text
            .parse::<SocketAddr>()
            .ok()
            .map(|address| (address.ip(), address.port()))?,
    };
    Some(SocketAddr::new(address.to_canonical(), port))
}

/// The nearest proxy's word.
fn last_scheme(headers: &HeaderMap) -> Option<Scheme> {
    let last = headers.get_all(PROTO).iter().next_back()?;
    let last = last
        .as_bytes()
        .rsplit(|byte| *byte == b',')
        .next()?
        .trim_ascii();
    if last.eq_ignore_ascii_case(b"https") || last.eq_ignore_ascii_case(b"wss") {
        Some(Scheme::Https)
    } else if last.eq_ignore_ascii_case(b"http") || last.eq_ignore_ascii_case(b"ws") {
        Some(Scheme::Http)
    } else {
        None
    }
}

fn is_request_id(value: &HeaderValue) -> bool {
    let value = value.as_bytes();
    (1..=128).contains(&value.len())
        && value
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':'))
}

/// A UUID of version 7 (RFC 9562, section 5.7) whose lower part is counted, from a random number on: it names
/// a request and is no secret, and asking the kernel for randomness costs more than the rest of the head.
fn request_id() -> Arc<str> {
    static NEXT: LazyLock<AtomicU64> =
        LazyLock::new(|| AtomicU64::new(uuid::Uuid::now_v7().as_u64_pair().1));
    static PROCESS: LazyLock<[u8; 2]> = LazyLock::new(|| {
        let [.., first, second] = *uuid::Uuid::now_v7().as_bytes();
        [first, second]
    });
    let millis = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        });
    let mut rest = [0; 10];
    let (process, count) = rest.split_at_mut(2);
    process.copy_from_slice(&*PROCESS);
    count.copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    let id = uuid::Builder::from_unix_timestamp_millis(millis, &rest).into_uuid();
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    Arc::from(&*id.hyphenated().encode_lower(&mut text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_id_is_a_uuid_of_version_7_and_never_given_twice() {
        let ids: std::collections::BTreeSet<_> = (0..1000).map(|_| request_id()).collect();
        assert_eq!(ids.len(), 1000);
        for id in &ids {
            let id = uuid::Uuid::parse_str(id).unwrap();
            assert_eq!(id.get_version_num(), 7);
            assert_eq!(id.get_variant(), uuid::Variant::RFC4122);
        }
    }

    fn establish(peer: &str, lines: &[(&'static str, &str)]) -> (Origin, HeaderMap) {
        let proxies: Vec<IpNet> = vec![
            "10.0.0.0/8".parse().unwrap(),
            "2001:db8:1::/48".parse().unwrap(),
        ];
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let peer = SocketAddr::new(peer.parse().unwrap(), 4000);
        let text = address_text(peer.ip());
        let origin = Origin::establish(peer, text.as_ref(), Scheme::Http, &proxies, &mut headers);
        (origin, headers)
    }

    #[test]
    fn headers_of_a_client_are_not_believed() {
        let (origin, headers) = establish(
            "192.0.2.1",
            &[
                ("x-forwarded-for", "1.1.1.1"),
                ("x-forwarded-proto", "https"),
                ("x-forwarded-host", "admin"),
                ("forwarded", "for=1.1.1.1"),
                ("x-real-ip", "1.1.1.1"),
                ("cf-connecting-ip", "1.1.1.1"),
                ("x-request-id", "chosen"),
                ("x-original-url", "/admin"),
                ("x-forwarded-ssl", "on"),
                ("cf-ipcountry", "CH"),
                ("cf-connecting-ipv6", "2001:db8::7"),
                ("cf-access-authenticated-user-email", "admin@a.example"),
            ],
        );
        assert_eq!(origin.client.to_string(), "192.0.2.1:4000");
        assert_eq!(origin.scheme, Scheme::Http);
        assert_eq!(origin.request_id.len(), 36);
        assert_eq!(headers["x-forwarded-for"], "192.0.2.1");
        assert_eq!(headers["cf-connecting-ip"], "192.0.2.1");
        assert_eq!(headers["x-forwarded-proto"], "http");
        assert_eq!(headers["x-request-id"], *origin.request_id);
        assert_eq!(headers.len(), 4);
    }

    #[test]
    fn headers_of_the_gateway_are_not_taken_away_by_connection() {
        let names = "close, cf-connecting-ip, X-Forwarded-For, x-forwarded-proto, x-request-id";
        for (peer, client) in [("192.0.2.1", "192.0.2.1"), ("10.0.0.1", "192.0.2.7")] {
            let (origin, headers) = establish(
                peer,
                &[
                    ("connection", names),
                    ("x-forwarded-for", "192.0.2.7"),
                    ("x-forwarded-proto", "https"),
                    ("x-request-id", "a-1"),
                ],
            );
            assert_eq!(origin.client.ip().to_string(), client);
            assert_eq!(headers["x-forwarded-for"], client);
            assert_eq!(headers["cf-connecting-ip"], client);
            assert_eq!(headers["x-forwarded-proto"], origin.scheme.as_str());
            assert_eq!(headers["x-request-id"], *origin.request_id);
            // Nor by what cleans the request afterwards.
            let mut headers = headers;
            let authority = http::uri::Authority::from_static("a");
            headers::clean_request(&mut headers, &authority);
            assert_eq!(headers["cf-connecting-ip"], client);
            assert_eq!(headers["x-request-id"], *origin.request_id);
            assert!(!headers.contains_key("connection"));
        }
    }

    #[test]
    fn trusted_proxy_is_believed_for_the_address_alone() {
        let (_, headers) = establish(
            "10.0.0.1",
            &[
                ("x-forwarded-for", "192.0.2.7"),
                ("x-forwarded-host", "other"),
                ("cf-ipcountry", "CH"),
                ("cf-access-authenticated-user-email", "admin@a.example"),
                ("cf-connecting-ip", "1.1.1.1"),
                ("client-ip", "1.1.1.1"),
            ],
        );
        assert_eq!(headers["cf-connecting-ip"], "192.0.2.7");
        assert_eq!(headers["x-forwarded-for"], "192.0.2.7");
        assert_eq!(headers.len(), 4);
    }

    #[test]
    fn client_is_the_last_address_that_is_no_trusted_proxy() {
        let check = |lines: &[&str], client: &str| {
            let lines: Vec<_> = lines
                .iter()
                .map(|line| ("x-forwarded-for", *line))
                .collect();
            let (origin, headers) = establish("10.0.0.1", &lines);
            assert_eq!(origin.client.ip().to_string(), client, "{lines:?}");
            assert_eq!(headers["x-forwarded-for"], client);
        };
        check(&[], "10.0.0.1");
        check(&["192.0.2.7"], "192.0.2.7");
        check(&["1.1.1.1, 192.0.2.7"], "192.0.2.7");
        check(&["1.1.1.1, 192.0.2.7, 10.9.9.9"], "192.0.2.7");
        check(&["1.1.1.1", "192.0.2.7", "10.9.9.9,10.9.9.8"], "192.0.2.7");
        check(&["10.9.9.9"], "10.9.9.9");
        check(&["192.0.2.7:1234"], "192.0.2.7");
        check(&["[2001:db8::7]:1234"], "2001:db8::7");
        check(&["[2001:db8::7]"], "2001:db8::7");
        check(&["2001:db8::7, 2001:db8:1::1"], "2001:db8::7");
        check(&["::ffff:192.0.2.7"], "192.0.2.7");
        check(&["192.0.2.7, ::ffff:10.0.0.3"], "192.0.2.7");
        check(&["192.0.2.7, unknown"], "10.0.0.1");
        check(&["192.0.2.7, unknown, 10.0.0.9"], "10.0.0.9");
        check(&[""], "10.0.0.1");
    }

    #[test]
    fn trusted_proxy_names_scheme_and_request() {
        let (origin, headers) = establish(
            "10.0.0.1",
            &[
                ("x-forwarded-proto", "http, https"),
                ("x-request-id", "a-1"),
            ],
        );
        assert_eq!(origin.scheme, Scheme::Https);
        assert_eq!(&*origin.request_id, "a-1");
        assert_eq!(headers["x-forwarded-proto"], "https");
        let (origin, _) = establish(
            "10.0.0.1",
            &[("x-forwarded-proto", "gopher"), ("x-request-id", "a\"b")],
        );
        assert_eq!(origin.scheme, Scheme::Http);
        assert_eq!(origin.request_id.len(), 36);
    }
}
