//! A DNS server on loopback, and what guests can and cannot do with names.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::Name;
use hickory_resolver::proto::op::{Message, MessageType, ResponseCode};
use hickory_resolver::proto::rr::rdata::CNAME;
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use parking_lot::Mutex;
use stockade_broker::{AddressKind, EgressError, Reason};
use tokio::net::UdpSocket;

use super::servers;
use super::setting::{Setting, get, rule, text};

/// What the server answers.
#[derive(Clone)]
pub(crate) enum Answer {
    Addresses(Vec<IpAddr>),
    /// An alias, and the addresses behind it.
    Alias(&'static str, Vec<IpAddr>),
    Code(ResponseCode),
    Silence,
    Garbage,
}

/// Names that were asked for, and what comes back, with a time to live of zero.
pub(crate) struct Dns {
    pub(crate) address: SocketAddr,
    pub(crate) asked: Arc<Mutex<Vec<String>>>,
}

impl Dns {
    /// Answers by name without its last dot, and how often it was asked for addresses of IPv4 before.
    pub(crate) async fn start(
        answer: impl Fn(&str, usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = asked.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let Ok(query) = Message::from_vec(&buffer[..length]) else {
                    continue;
                };
                let Some(question) = query.queries().first().cloned() else {
                    continue;
                };
                let name = question.name().to_ascii();
                let name = name.trim_end_matches('.').to_lowercase();
                let before = kept.lock().iter().filter(|asked| **asked == name).count();
                if question.query_type() == RecordType::A {
                    kept.lock().push(name.clone());
                }
                let before = match question.query_type() {
                    RecordType::A => before,
                    _ => before.saturating_sub(1),
                };
                let reply = match answer(&name, before) {
                    Answer::Silence => continue,
                    Answer::Garbage => query
                        .id()
                        .to_be_bytes()
                        .into_iter()
                        .chain([0xff; 40])
                        .collect(),
                    answer => encode(&query, &answer),
                };
                let _ = socket.send_to(&reply, from).await;
            }
        });
        Self { address, asked }
    }

    /// Answers every name with one address.
    pub(crate) async fn constant(address: &str) -> Self {
        let address: IpAddr = address.parse().unwrap();
        Self::start(move |_, _| Answer::Addresses(vec![address])).await
    }
}

fn encode(query: &Message, answer: &Answer) -> Vec<u8> {
    let question = query.queries()[0].clone();
    let mut reply = Message::new();
    reply
        .set_id(query.id())
        .set_message_type(MessageType::Response)
        .set_recursion_available(true);
    reply.add_query(question.clone());
    let mut owner = question.name().clone();
    let addresses = match answer {
        Answer::Addresses(addresses) => addresses.clone(),
        Answer::Alias(alias, addresses) => {
            let alias = Name::from_ascii(alias).unwrap();
            let data = RData::CNAME(CNAME(alias.clone()));
            reply.add_answer(Record::from_rdata(owner.clone(), 0, data));
            owner = alias;
            addresses.clone()
        }
        Answer::Code(code) => {
            reply.set_response_code(*code);
            Vec::new()
        }
        Answer::Silence | Answer::Garbage => Vec::new(),
    };
    for address in addresses {
        let is_asked_for = match question.query_type() {
            RecordType::A => address.is_ipv4(),
            RecordType::AAAA => address.is_ipv6(),
            _ => false,
        };
        if is_asked_for {
            reply.add_answer(Record::from_rdata(owner.clone(), 0, RData::from(address)));
        }
    }
    reply.to_vec().unwrap()
}

fn addresses(texts: &[&str]) -> Answer {
    Answer::Addresses(texts.iter().map(|text| text.parse().unwrap()).collect())
}

#[tokio::test]
async fn name_is_resolved_and_the_host_header_has_the_name() {
    let dns = Dns::constant("127.0.0.1").await;
    let (server, heads) = servers::recorder().await;
    let setting = Setting::with_dns(dns.address);
    let egress = setting.open(|_| ());
    let url = format!("http://Api.Example.:{}/x?y", server.port());
    assert_eq!(text(get(&egress, &url).await.unwrap()).await, "ok");
    let head = heads.lock()[0].clone();
    assert!(head.starts_with("GET /x?y HTTP/1.1\r\n"), "{head}");
    assert!(
        head.contains(&format!("host: api.example:{}\r\n", server.port())),
        "{head}"
    );
    assert_eq!(*dns.asked.lock(), ["api.example"]);
}

#[tokio::test]
async fn name_that_is_rebound_between_requests_is_refused_the_second_time() {
    let dns = Dns::start(|_, before| match before {
        0 => addresses(&["127.0.0.2"]),
        _ => addresses(&["127.0.0.1"]),
    })
    .await;
    // The same port on both addresses: what is protected is on 127.0.0.1.
    let protected = servers::says("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecret").await;
    let listener = tokio::net::TcpListener::bind(("127.0.0.2", protected.port()))
        .await
        .unwrap();
    let harmless = servers::on(listener, |mut stream| async move {
        servers::read_head(&mut stream).await;
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\nconnection: close\r\n\r\nharmless";
        let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await;
    });
    let setting = Setting::with_dns(dns.address);
    let egress =
        setting.open(|policy| policy.allow_private = vec!["127.0.0.2/32".parse().unwrap()]);
    let url = format!("http://rebind.example:{}/", protected.port());
    assert_eq!(text(get(&egress, &url).await.unwrap()).await, "harmless");
    let refused = get(&egress, &url).await.unwrap_err();
    let refusal = refused.refusal().unwrap();
    assert_eq!(
        refusal.reason,
        Reason::AddressNotAllowed(AddressKind::Loopback)
    );
    assert_eq!(refusal.address, Some("127.0.0.1".parse().unwrap()));
    assert!(
        !refused.to_string().contains("127.0.0.1"),
        "the guest learns no address: {refused}"
    );
    assert_eq!((harmless.connections(), protected.connections()), (1, 0));
}

#[tokio::test]
async fn kept_connection_is_not_used_for_a_name_that_points_elsewhere_now() {
    let dns = Dns::start(|_, before| match before {
        0 => addresses(&["127.0.0.1"]),
        _ => addresses(&["10.0.0.1"]),
    })
    .await;
    let (server, heads) = servers::recorder().await;
    let setting = Setting::with_dns(dns.address);
    let egress = setting.open(|_| ());
    let url = format!("http://moves.example:{}/", server.port());
    assert_eq!(text(get(&egress, &url).await.unwrap()).await, "ok");
    assert!(get(&egress, &url).await.is_err());
    assert_eq!(heads.lock().len(), 1);
}

#[tokio::test]
async fn name_with_one_bad_address_among_good_ones_is_refused() {
    let dns = Dns::start(|name, _| match name {
        "mixed4.example" => addresses(&["127.0.0.1", "10.0.0.1"]),
        "mixed6.example" => addresses(&["127.0.0.1", "fd00::1"]),
        "mapped.example" => addresses(&["127.0.0.1", "::ffff:127.0.0.1"]),
        _ => addresses(&["127.0.0.1"]),
    })
    .await;
    let (server, _) = servers::recorder().await;
    let setting = Setting::with_dns(dns.address);
    let egress = setting.open(|_| ());
    for name in ["mixed4.example", "mixed6.example", "mapped.example"] {
        let refused = get(&egress, &format!("http://{name}:{}/", server.port())).await;
        assert!(refused.unwrap_err().refusal().is_some(), "{name}");
    }
    assert_eq!(server.connections(), 0);
    let good = format!("http://good.example:{}/", server.port());
    assert_eq!(text(get(&egress, &good).await.unwrap()).await, "ok");
}

#[tokio::test]
async fn alias_to_an_inner_address_is_refused() {
    let dns = Dns::start(|_, _| {
        Answer::Alias(
            "metadata.internal.",
            vec!["169.254.169.254".parse().unwrap()],
        )
    })
    .await;
    let setting = Setting::with_dns(dns.address);
    let egress =
        setting.open(|policy| policy.allow_private.push("169.254.0.0/16".parse().unwrap()));
    let refused = get(&egress, "http://alias.example/").await.unwrap_err();
    let reason = &refused.refusal().unwrap().reason;
    assert_eq!(*reason, Reason::AddressNotAllowed(AddressKind::Metadata));
}

#[tokio::test]
async fn name_that_does_not_resolve_fails_closed() {
    let dns = Dns::start(|name, _| match name {
        "nx.example" => Answer::Code(ResponseCode::NXDomain),
        "fail.example" => Answer::Code(ResponseCode::ServFail),
        "refused.example" => Answer::Code(ResponseCode::Refused),
        "empty.example" => addresses(&[]),
        "garbage.example" => Answer::Garbage,
        _ => Answer::Silence,
    })
    .await;
    let setting = Setting::with_dns(dns.address);
    let egress = setting.open(|policy| policy.limits.connect_timeout = Duration::from_secs(1));
    for name in ["nx", "fail", "refused", "empty"] {
        let error = get(&egress, &format!("http://{name}.example/"))
            .await
            .unwrap_err();
        assert!(
            matches!(error, EgressError::Resolve { .. }),
            "{name}: {error}"
        );
    }
    for name in ["garbage", "silent"] {
        let error = get(&egress, &format!("http://{name}.example/"))
            .await
            .unwrap_err();
        let is_closed = matches!(
            error,
            EgressError::Resolve { .. } | EgressError::TimedOut { .. }
        );
        assert!(is_closed, "{name}: {error}");
    }
}

#[tokio::test]
async fn machine_without_a_resolver_reaches_no_name() {
    let setting = Setting::new();
    let error = get(&setting.open(|_| ()), "http://any.example/")
        .await
        .unwrap_err();
    assert!(matches!(error, EgressError::Resolve { .. }), "{error}");
}

#[tokio::test]
async fn name_with_very_many_addresses_is_refused() {
    let many: Vec<IpAddr> = (0..70).map(|n| IpAddr::from([127, 0, 1, n])).collect();
    let dns = Dns::start(move |_, _| Answer::Addresses(many.clone())).await;
    let setting = Setting::with_dns(dns.address);
    let error = get(&setting.open(|_| ()), "http://many.example/")
        .await
        .unwrap_err();
    assert!(matches!(error, EgressError::Resolve { .. }), "{error}");
}

#[tokio::test]
async fn name_that_no_rule_allows_is_never_looked_up() {
    let dns = Dns::constant("127.0.0.1").await;
    let setting = Setting::with_dns(dns.address);
    let egress = setting.open(|policy| policy.rules = vec![rule(&["*.good.example"])]);
    for url in [
        "http://c2VjcmV0.evil.example/",
        "http://good.example/",
        "http://localhost/",
    ] {
        let refused = get(&egress, url).await.unwrap_err();
        assert_eq!(refused.refusal().unwrap().reason, Reason::HostNotAllowed);
    }
    assert_eq!(dns.asked.lock().len(), 0);
}

#[tokio::test]
async fn name_with_a_dead_address_is_reached_by_another() {
    let dns = Dns::start(|_, _| addresses(&["127.0.0.3", "127.0.0.1"])).await;
    let (server, _) = servers::recorder().await;
    let setting = Setting::with_dns(dns.address);
    let url = format!("http://half-dead.example:{}/", server.port());
    assert_eq!(
        text(get(&setting.open(|_| ()), &url).await.unwrap()).await,
        "ok"
    );
}

#[tokio::test]
async fn name_in_the_machines_hosts_file_needs_no_server() {
    let (server, _) = servers::recorder().await;
    let setting = Setting::with(|options| options.resolver = Default::default());
    let egress = setting.open(|_| ());
    let url = format!("http://localhost:{}/", server.port());
    assert_eq!(text(get(&egress, &url).await.unwrap()).await, "ok");
    let closed = setting.open(|policy| policy.allow_private.clear());
    assert!(get(&closed, &url).await.unwrap_err().refusal().is_some());
}
