//! Connections over TCP: what they carry, what ends them, and what is refused.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use stockade_broker::{
    Action, AddressKind, ClientCertificate, Connection, EgressError, Outcome, Protocol, Reason,
    Secure, SocketPolicy, SocketRule, SocketTarget, Sockets, TlsUse,
};
use stockade_http::HostPattern;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

use super::dns::{Answer, Dns};
use super::servers::{self, Server};
use super::setting::Setting;
use super::tls::Authority;

/// Echoes what comes, until the end.
async fn echo(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..read]).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
    let _ = stream.shutdown().await;
}

async fn echo_server() -> Server {
    servers::raw(echo).await
}

/// One rule for all of loopback.
fn policy(tls: TlsUse, change: impl FnOnce(&mut SocketPolicy)) -> SocketPolicy {
    let hosts = ["*", "127.0.0.1"].map(|host| HostPattern::parse(host).unwrap());
    let mut policy = SocketPolicy {
        rules: vec![SocketRule {
            name: "test".into(),
            hosts: hosts.to_vec(),
            ports: vec![1..=65535],
            tls,
            ..SocketRule::default()
        }],
        allow_private: vec!["127.0.0.0/8".parse().unwrap()],
        ..SocketPolicy::default()
    };
    policy.limits.attempts_per_second = None;
    change(&mut policy);
    policy
}

fn open(setting: &Setting, policy: SocketPolicy) -> Arc<Sockets> {
    setting.broker.sockets("acme", policy).unwrap()
}

async fn connect(
    sockets: &Arc<Sockets>,
    host: &str,
    port: u16,
    secure: Secure,
) -> Result<Connection, EgressError> {
    let target = SocketTarget {
        host: host.to_owned(),
        port,
        protocol: Protocol::Tcp,
        secure,
        server_name: None,
    };
    // As a host would: on a task of its own, so it must be Send.
    tokio::spawn(sockets.clone().connect(target)).await.unwrap()
}

async fn in_flight(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), word: &str) -> String {
    stream.write_all(word.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let mut answer = vec![0; word.len()];
    stream.read_exact(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn connection_carries_bytes_and_is_counted() {
    let server = echo_server().await;
    let setting = Setting::new();
    let sockets = open(&setting, policy(TlsUse::Allowed, |_| ()));
    let connected = connect(&sockets, "127.0.0.1", server.port(), Secure::Off).await;
    let mut stream = connected.unwrap().stream;
    assert_eq!(in_flight(&mut stream, "hello").await, "hello");
    stream.shutdown().await.unwrap();
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
    drop(stream);
    let used = setting.used().await;
    assert_eq!(
        (used.action, used.sent, used.received),
        (Action::Socket, 5, 5)
    );
    assert_eq!((used.outcome, &*used.rule), (Outcome::Done, "test"));
    assert_eq!(used.target, format!("tcp://127.0.0.1:{}", server.port()));
}

#[tokio::test]
async fn connection_has_tls_from_its_first_byte_or_later() {
    let authority = Authority::new();
    let acceptor = authority.acceptor(&["db.example"], &[]);
    let later = acceptor.clone();
    let at_once = servers::raw(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                echo(stream).await;
            }
        }
    })
    .await;
    // Says a word in plain, and is asked to go on in TLS.
    let upgrading = servers::raw(move |mut stream: TcpStream| {
        let acceptor = later.clone();
        async move {
            let mut word = [0; 5];
            let _ = stream.read_exact(&mut word).await;
            let _ = stream.write_all(b"S").await;
            if let Ok(stream) = acceptor.accept(stream).await {
                echo(stream).await;
            }
        }
    })
    .await;
    let dns = Dns::constant("127.0.0.1").await;
    let setting = Setting::with_dns(dns.address);
    let trusting = |ca| {
        open(
            &setting,
            policy(TlsUse::Required, |policy| policy.rules[0].ca = ca),
        )
    };
    let sockets = trusting(vec![authority.root()]);

    let connected = connect(&sockets, "db.example", at_once.port(), Secure::On).await;
    assert_eq!(
        in_flight(&mut connected.unwrap().stream, "hello").await,
        "hello"
    );

    let connected = connect(&sockets, "db.example", upgrading.port(), Secure::StartTls).await;
    let Connection {
        mut stream,
        start_tls,
        ..
    } = connected.unwrap();
    stream.write_all(b"start").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'S');
    let (mut stream, _) = start_tls.unwrap().start(stream, None).await.unwrap();
    assert_eq!(in_flight(&mut stream, "secret").await, "secret");

    // The hostile cases: a root that is not trusted, and a name that is not proven.
    let strangers = trusting(Vec::new());
    let refused = connect(&strangers, "db.example", at_once.port(), Secure::On).await;
    let refused = refused.err().unwrap();
    assert!(matches!(refused, EgressError::Tls { .. }), "{refused}");
    assert!(!refused.to_string().contains("127.0.0.1"), "{refused}");
    let refused = connect(&sockets, "other.example", at_once.port(), Secure::On).await;
    assert!(matches!(refused.err(), Some(EgressError::Tls { .. })));
}

#[tokio::test]
async fn server_name_that_the_rule_does_not_name_is_refused() {
    let authority = Authority::new();
    let acceptor = authority.acceptor(&["db.example"], &[]);
    let server = servers::raw(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                echo(stream).await;
            }
        }
    })
    .await;
    let setting = Setting::new();
    let naming = |host: &str| {
        let hosts = ["127.0.0.1", host].map(|host| HostPattern::parse(host).unwrap());
        let change = |policy: &mut SocketPolicy| {
            policy.rules[0].ca = vec![authority.root()];
            policy.rules[0].hosts = hosts.to_vec();
        };
        open(&setting, policy(TlsUse::Required, change))
    };
    let named = |sockets: &Arc<Sockets>, secure| {
        sockets.clone().connect(SocketTarget {
            host: "127.0.0.1".to_owned(),
            port: server.port(),
            protocol: Protocol::Tcp,
            secure,
            server_name: Some("db.example".to_owned()),
        })
    };
    let allowed = naming("*.example");
    let connected = named(&allowed, Secure::On).await;
    assert_eq!(
        in_flight(&mut connected.unwrap().stream, "hello").await,
        "hello"
    );

    // The hostile cases: from the first byte, and later.
    let strict = naming("other.example");
    let refused = named(&strict, Secure::On).await.err().unwrap();
    assert!(refused.refusal().is_some(), "{refused}");
    let connected = named(&strict, Secure::StartTls).await.unwrap();
    let name = Some("db.example".to_owned());
    let started = connected.start_tls.unwrap().start(connected.stream, name);
    let refused = started.await.err().unwrap();
    assert!(refused.refusal().is_some(), "{refused}");
    let reasons = setting.reasons();
    assert_eq!(reasons, [Reason::HostNotAllowed, Reason::HostNotAllowed]);
}

#[tokio::test]
async fn client_certificate_of_a_rule_is_shown_to_a_server_that_asks() {
    let authority = Authority::new();
    let acceptor = authority.demanding("db.example");
    let server = servers::raw(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                echo(stream).await;
            }
        }
    })
    .await;
    let dns = Dns::constant("127.0.0.1").await;
    let setting = Setting::with_dns(dns.address);
    let (certificate, key) = authority.identity("stockade");
    let sockets = |client| {
        let change = |policy: &mut SocketPolicy| {
            policy.rules[0].ca = vec![authority.root()];
            policy.rules[0].client = client;
        };
        open(&setting, policy(TlsUse::Required, change))
    };
    let known = sockets(Some(ClientCertificate { certificate, key }));
    let connected = connect(&known, "db.example", server.port(), Secure::On).await;
    assert_eq!(
        in_flight(&mut connected.unwrap().stream, "hello").await,
        "hello"
    );
    // The hostile case: without the certificate, nothing is echoed.
    let unknown = sockets(None);
    let mut refused = match connect(&unknown, "db.example", server.port(), Secure::On).await {
        Ok(connected) => connected.stream,
        Err(_) => return,
    };
    let _ = refused.write_all(b"hello").await;
    assert!(refused.read(&mut [0; 8]).await.unwrap_or(0) == 0);
}

#[tokio::test]
async fn connection_that_must_have_tls_sends_little_without_it() {
    let server = echo_server().await;
    let setting = Setting::new();
    let sockets = open(&setting, policy(TlsUse::Required, |_| ()));
    let refused = connect(&sockets, "127.0.0.1", server.port(), Secure::Off).await;
    assert!(matches!(refused, Err(EgressError::Refused(_))));
    assert_eq!(setting.reasons(), [Reason::TlsRequired]);
    let connected = connect(&sockets, "127.0.0.1", server.port(), Secure::StartTls).await;
    let mut stream = connected.unwrap().stream;
    stream.write_all(&[1; 4096]).await.unwrap();
    let refused = stream.write_all(&[1]).await.unwrap_err();
    assert!(refused.to_string().contains("TLS"), "{refused}");
    assert_eq!(setting.reasons(), [Reason::TlsRequired]);
    drop(stream);
    setting.ended(Outcome::Failed).await;
}

#[tokio::test]
async fn rules_of_data_guard_allow_no_connection() {
    let server = echo_server().await;
    let setting = Setting::new();
    // What `fetch` may reach, in full.
    let _ = setting.open(|_| ());
    let sockets = open(&setting, SocketPolicy::default());
    let refused = connect(&sockets, "127.0.0.1", server.port(), Secure::Off).await;
    let refused = refused.err().unwrap();
    assert!(
        refused.to_string().contains("no rule of sockets"),
        "{refused}"
    );
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn name_that_turns_inside_after_the_check_is_refused_or_not_followed() {
    let server = echo_server().await;
    let asked = Dns::start(|name, before| {
        let address = match (name, before) {
            ("rebind.example", 0) => "192.0.2.1",
            _ => "127.0.0.1",
        };
        Answer::Addresses(vec![address.parse().unwrap()])
    })
    .await;
    let setting = Setting::with_dns(asked.address);
    let closed = open(
        &setting,
        policy(TlsUse::Allowed, |policy| policy.allow_private.clear()),
    );
    for name in ["rebind.example", "rebind.example", "inside.example"] {
        let refused = connect(&closed, name, server.port(), Secure::Off).await;
        let refused = refused.err().unwrap();
        assert!(refused.refusal().is_some(), "{name}: {refused}");
        assert!(!refused.to_string().contains("127.0.0.1"), "{refused}");
    }
    let kinds = setting.reasons();
    assert!(
        kinds.contains(&Reason::AddressNotAllowed(AddressKind::Loopback)),
        "{kinds:?}"
    );
    assert_eq!(server.connections(), 0);
    // The control: the same name, with its address listed.
    let sockets = open(&setting, policy(TlsUse::Allowed, |_| ()));
    let connected = connect(&sockets, "inside.example", server.port(), Secure::Off).await;
    assert_eq!(in_flight(&mut connected.unwrap().stream, "in").await, "in");
}

#[tokio::test]
async fn scan_of_ports_reaches_the_ports_of_the_rule_alone_and_has_a_rate() {
    let server = echo_server().await;
    let port = server.port();
    let setting = Setting::new();
    let sockets = open(
        &setting,
        policy(TlsUse::Allowed, |policy| {
            policy.rules[0].ports = vec![port..=port];
            policy.limits.attempts_per_second = NonZeroU32::new(1000);
        }),
    );
    let mut open = 0;
    for tried in 1..=5000_u16 {
        let tried = if tried == 1 { port } else { tried };
        open += usize::from(
            connect(&sockets, "127.0.0.1", tried, Secure::Off)
                .await
                .is_ok(),
        );
    }
    let reasons = setting.reasons();
    assert!(open <= 1 && server.connections() <= 1);
    assert!(reasons.contains(&Reason::PortNotAllowed));
    // Refused attempts count as well; how many there are in a second depends on the machine.
    let rate = Reason::Rate { limit: 1000 };
    assert!(
        reasons
            .iter()
            .all(|reason| [Reason::PortNotAllowed, rate.clone()].contains(reason))
    );
}

#[tokio::test]
async fn connections_beyond_the_bounds_are_refused() {
    let server = echo_server().await;
    let setting = Setting::new();
    let sockets = open(
        &setting,
        policy(TlsUse::Allowed, |policy| {
            policy.limits.concurrent = 2;
            policy.limits.budget.requests = Some(3);
        }),
    );
    let to_server = || connect(&sockets, "127.0.0.1", server.port(), Secure::Off);
    let first = to_server().await.unwrap();
    let _second = to_server().await.unwrap();
    assert!(to_server().await.is_err());
    assert_eq!(setting.reasons(), [Reason::Concurrency { limit: 2 }]);
    drop(first);
    let third = to_server().await.unwrap();
    drop(third);
    let refused = to_server().await.err().unwrap();
    assert!(
        refused.to_string().contains("budget of 3 connections"),
        "{refused}"
    );
}

#[tokio::test]
async fn bytes_beyond_the_budget_break_the_connection() {
    let server = echo_server().await;
    let setting = Setting::new();
    let sockets = open(
        &setting,
        policy(TlsUse::Allowed, |policy| {
            policy.limits.budget.bytes = Some(1000);
        }),
    );
    let connected = connect(&sockets, "127.0.0.1", server.port(), Secure::Off).await;
    let mut stream = connected.unwrap().stream;
    assert_eq!(in_flight(&mut stream, "within").await, "within");
    let broken = stream.write_all(&[1; 2000]).await.unwrap_err();
    assert!(broken.to_string().contains("1000 bytes"), "{broken}");
    drop(stream);
    setting.ended(Outcome::Failed).await;
}

#[tokio::test]
async fn connection_ends_when_it_is_idle_or_old_whatever_the_guest_does() {
    let server = echo_server().await;
    let setting = Setting::new();
    let idle = open(
        &setting,
        policy(TlsUse::Allowed, |policy| {
            policy.limits.idle_timeout = Duration::from_millis(50);
        }),
    );
    let connected = connect(&idle, "127.0.0.1", server.port(), Secure::Off).await;
    let over = connected.unwrap().deadline.over().await;
    assert!(over.to_string().contains("waiting for data"), "{over}");
    let old = open(
        &setting,
        policy(TlsUse::Allowed, |policy| {
            policy.limits.lifetime = Duration::from_millis(50);
        }),
    );
    let connected = connect(&old, "127.0.0.1", server.port(), Secure::Off).await;
    let over = connected.unwrap().deadline.over().await;
    assert!(over.to_string().contains("the connection took"), "{over}");
}

#[tokio::test]
async fn failure_to_connect_says_its_kind_and_no_address() {
    // A port that nothing listens on.
    let closed = servers::raw(|_| async {}).await.port();
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let free = listener.local_addr().unwrap().port();
    drop(listener);
    let dns = Dns::start(|name, _| match name {
        "none.example" => Answer::Addresses(Vec::new()),
        _ => Answer::Addresses(vec!["127.0.0.1".parse().unwrap()]),
    })
    .await;
    let setting = Setting::with_dns(dns.address);
    let sockets = open(&setting, policy(TlsUse::Allowed, |_| ()));
    let refused = connect(&sockets, "db.example", free, Secure::Off).await;
    let text = refused.err().unwrap().to_string();
    assert!(text.contains("connection refused"), "{text}");
    assert!(!text.contains("127.0.0.1"), "{text}");
    let unknown = connect(&sockets, "none.example", closed, Secure::Off).await;
    let unknown = unknown.err().unwrap();
    assert!(matches!(unknown, EgressError::Resolve { .. }), "{unknown}");
    for host in ["", "a b", "[::1%25eth0]", "http://x", &"a".repeat(300)] {
        let invalid = connect(&sockets, host, closed, Secure::Off).await;
        let invalid = invalid.err().unwrap();
        assert!(
            matches!(invalid, EgressError::Invalid { .. }),
            "{host}: {invalid}"
        );
    }
}

#[tokio::test]
async fn files_of_certificates_that_cannot_be_used_are_reported() {
    let setting = Setting::new();
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let with = |change: fn(&mut SocketRule, std::path::PathBuf)| {
        let broken = policy(TlsUse::Allowed, |policy| {
            change(&mut policy.rules[0], empty.clone());
        });
        setting
            .broker
            .sockets("acme", broken)
            .err()
            .unwrap()
            .to_string()
    };
    let roots = with(|rule, path| rule.ca = vec![path]);
    assert!(roots.contains("no certificate"), "{roots}");
    let client = with(|rule, path| {
        rule.client = Some(ClientCertificate {
            certificate: path.clone(),
            key: path,
        });
    });
    assert!(client.contains("client certificate"), "{client}");
}

/// One datagram, as the stream has it.
fn framed(data: &[u8]) -> Vec<u8> {
    let mut frame = u16::try_from(data.len()).unwrap().to_be_bytes().to_vec();
    frame.extend_from_slice(data);
    frame
}

async fn datagrams(
    sockets: &Arc<Sockets>,
    host: &str,
    port: u16,
) -> Result<Connection, EgressError> {
    let target = SocketTarget {
        host: host.to_owned(),
        port,
        protocol: Protocol::Udp,
        secure: Secure::Off,
        server_name: None,
    };
    sockets.clone().connect(target).await
}

#[tokio::test]
async fn datagrams_keep_their_bounds_and_come_from_their_address_alone() {
    let server = UdpSocket::bind(("127.0.0.1", 0)).await.unwrap();
    let stranger = UdpSocket::bind(("127.0.0.1", 0)).await.unwrap();
    let port = server.local_addr().unwrap().port();
    let setting = Setting::new();
    let sockets = open(
        &setting,
        policy(TlsUse::Required, |policy| {
            policy.rules[0].protocol = Protocol::Udp
        }),
    );
    let mut stream = datagrams(&sockets, "127.0.0.1", port).await.unwrap().stream;
    // In pieces that are not those of the datagrams.
    let (first, empty, large) = (framed(b"one"), framed(b""), framed(&[7; 60_000]));
    let all = [first, empty, large.clone()].concat();
    for piece in all.chunks(50_000) {
        stream.write_all(piece).await.unwrap();
    }
    stream.flush().await.unwrap();
    let mut buffer = vec![0; 70_000];
    let mut from = None;
    for length in [3, 0, 60_000] {
        let (received, client) = server.recv_from(&mut buffer).await.unwrap();
        assert_eq!(received, length);
        from = Some(client);
    }
    let client = from.unwrap();
    stranger.send_to(b"injected", client).await.unwrap();
    server.send_to(&[7; 60_000], client).await.unwrap();
    let mut answer = vec![0; large.len()];
    stream.read_exact(&mut answer).await.unwrap();
    assert!(answer == large);
    drop(stream);
    let used = setting.used().await;
    assert_eq!(used.target, format!("udp://127.0.0.1:{port}"));

    // The hostile cases: a datagram that cannot be, and a rule for connections.
    let mut stream = datagrams(&sockets, "127.0.0.1", port).await.unwrap().stream;
    let broken = stream.write_all(&[0xff, 0xff, 1]).await.unwrap_err();
    assert!(
        broken.to_string().contains("at most 65507 bytes"),
        "{broken}"
    );
    let tcp = open(&setting, policy(TlsUse::Allowed, |_| ()));
    let refused = datagrams(&tcp, "127.0.0.1", port).await.err().unwrap();
    assert!(
        refused.to_string().contains("not with this protocol"),
        "{refused}"
    );
}
