//! Proxies and certificates of rules. The proxies are microsocks and tinyproxy where they are installed
//! (`apt-get install microsocks tinyproxy`), and hostile ones made here.

use std::net::{SocketAddr, TcpListener as Listener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use stockade_broker::{
    BrokerError, ClientCertificate, Egress, EgressError, EgressPolicy, Protocol, Proxy,
    ProxyCredentials, ProxyProtocol, Reason, Rule, Secure, SocketPolicy, SocketRule, SocketTarget,
    TlsUse,
};
use stockade_http::{Host, HostPattern, SocketMessage};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::dns::Dns;
use super::servers::{self, Server, read_head, recorder, reply};
use super::setting::{Setting, get, rule, text};
use super::tls::Authority;
use super::websockets::echo_server;

const USER: &str = "stockade";
const PASSWORD: &str = "planted-password";

/// A proxy that is a program, ended with this.
struct Program {
    child: Child,
    port: u16,
    _folder: Option<tempfile::TempDir>,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The path of a program, where it is installed.
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut found = std::env::split_paths(&path).map(|folder| folder.join(name));
    let found = found.find(|path| path.is_file());
    if found.is_none() {
        eprintln!("skipped: {name} is not installed");
    }
    found
}

/// A port that nobody listens on. It is none of those that the kernel gives meanwhile to sockets without a port of their
/// own, and another one each time.
fn free_port() -> u16 {
    static TURN: AtomicU32 = AtomicU32::new(0);
    loop {
        let turn = TURN.fetch_add(1, Ordering::Relaxed);
        // Processes that test at the same time begin at different ports.
        let offset = (std::process::id() * 13 + turn) % 20_000;
        let port = 10_000 + u16::try_from(offset).unwrap();
        if Listener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Starts a program and waits until its port takes connections.
async fn start(mut command: Command, port: u16, folder: Option<tempfile::TempDir>) -> Program {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut program = Program {
        child: command.spawn().unwrap(),
        port,
        _folder: folder,
    };
    while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        assert!(
            program.child.try_wait().unwrap().is_none(),
            "the proxy has ended"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    program
}

async fn microsocks() -> Option<Program> {
    let port = free_port();
    let mut command = Command::new(program("microsocks")?);
    command.args([
        "-i",
        "127.0.0.1",
        "-p",
        &port.to_string(),
        "-u",
        USER,
        "-P",
        PASSWORD,
    ]);
    Some(start(command, port, None).await)
}

async fn tinyproxy() -> Option<Program> {
    let path = program("tinyproxy")?;
    let (port, folder) = (free_port(), tempfile::tempdir().unwrap());
    let file = folder.path().join("tinyproxy.conf");
    let settings = format!(
        "Port {port}\nListen 127.0.0.1\nAllow 127.0.0.1\nTimeout 60\nMaxClients 20\n\
         BasicAuth {USER} {PASSWORD}\nViaProxyName \"tinyproxy\"\n"
    );
    std::fs::write(&file, settings).unwrap();
    let mut command = Command::new(path);
    command.arg("-d").arg("-c").arg(&file);
    Some(start(command, port, Some(folder)).await)
}

fn proxy(protocol: ProxyProtocol, port: u16) -> Proxy {
    Proxy {
        protocol,
        host: Host::parse("127.0.0.1").unwrap(),
        port,
        credentials: Some(ProxyCredentials::new(format!("{USER}:{PASSWORD}"))),
        resolves: false,
    }
}

/// A way out whose only rule, for all of loopback, goes through a proxy.
fn through(setting: &Setting, proxy: &Proxy) -> Arc<Egress> {
    setting.open(|policy| policy.rules[0].proxy = Some(proxy.clone()))
}

/// A proxy that notes what it is asked for, answers with these bytes, and then closes.
async fn answering(answer: &'static [u8]) -> (Server, Arc<Mutex<Vec<String>>>) {
    let heads: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = heads.clone();
    let server = servers::raw(move |mut stream| {
        let kept = kept.clone();
        async move {
            let head = read_head(&mut stream).await;
            kept.lock().push(head);
            let _ = stream.write_all(answer).await;
            let _ = stream.shutdown().await;
        }
    });
    (server.await, heads)
}

#[tokio::test]
async fn socks_proxy_gets_the_checked_address_of_a_name() {
    let Some(socks) = microsocks().await else {
        return;
    };
    // The name exists for the broker only.
    let dns = Dns::constant("127.0.0.1").await;
    let setting = Setting::with_dns(dns.address);
    let (server, heads) = recorder().await;
    let mut proxy = proxy(ProxyProtocol::Socks5, socks.port);
    let url = format!("http://only.for.us.example:{}/a?b", server.port());
    let response = get(&through(&setting, &proxy), &url).await.unwrap();
    assert_eq!(text(response).await, "ok");
    let head = heads.lock().pop().unwrap().to_lowercase();
    assert!(head.starts_with("get /a?b http/1.1\r\n"), "{head}");
    assert!(
        head.contains(&format!("host: only.for.us.example:{}\r\n", server.port())),
        "{head}"
    );

    let wrong = ProxyCredentials::new("stockade:wrong");
    proxy.credentials = Some(wrong);
    let error = get(&through(&setting, &proxy), &url)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("the proxy did not accept the credentials"),
        "{error}"
    );
    assert!(
        !error.contains("wrong") && !error.contains(&socks.port.to_string()),
        "{error}"
    );
    proxy.credentials = Some(ProxyCredentials::new("no password"));
    let mut policy = setting.policy(|_| ());
    policy.rules[0].proxy = Some(proxy.clone());
    let opened = setting.broker.egress("acme", policy, Default::default());
    assert!(matches!(opened.err(), Some(BrokerError::ProxyCredentials)));
    proxy.credentials = None;
    let error = get(&through(&setting, &proxy), &url)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("the proxy did not accept the credentials"),
        "{error}"
    );
}

#[tokio::test]
async fn socks_proxy_resolves_names_only_where_its_rule_says_so() {
    let Some(socks) = microsocks().await else {
        return;
    };
    // The broker has nobody to ask for names.
    let setting = Setting::new();
    let (server, heads) = recorder().await;
    let mut proxy = proxy(ProxyProtocol::Socks5, socks.port);
    let url = format!("http://localhost:{}/", server.port());
    assert!(get(&through(&setting, &proxy), &url).await.is_err());
    assert_eq!(heads.lock().len(), 0);
    proxy.resolves = true;
    let response = get(&through(&setting, &proxy), &url).await.unwrap();
    assert_eq!(text(response).await, "ok");
    assert_eq!(heads.lock().len(), 1);
}

#[tokio::test]
async fn http_proxy_tunnels_to_the_checked_address() {
    let Some(tiny) = tinyproxy().await else {
        return;
    };
    let authority = Authority::new();
    let dns = Dns::constant("127.0.0.1").await;
    let setting = Setting::trusting(authority.root(), dns.address);
    let proxy = proxy(ProxyProtocol::Http, tiny.port);
    let egress = through(&setting, &proxy);
    let tls = servers::https(
        authority.acceptor(&["api.example"], &["h2"]),
        |request| async move { reply(format!("{:?}", request.version())) },
    );
    let tls = tls.await;
    let url = format!("https://api.example:{}/", tls.port());
    for _ in 0..2 {
        assert_eq!(text(get(&egress, &url).await.unwrap()).await, "HTTP/2.0");
    }
    assert_eq!(tls.connections(), 1);
    // Without TLS too: the server gets the name, and the proxy does not read the request.
    let (plain, heads) = recorder().await;
    let url = format!("http://api.example:{}/x", plain.port());
    assert_eq!(text(get(&egress, &url).await.unwrap()).await, "ok");
    let head = heads.lock().pop().unwrap().to_lowercase();
    assert!(head.starts_with("get /x http/1.1\r\n"), "{head}");
    assert!(
        head.contains(&format!("host: api.example:{}\r\n", plain.port())),
        "{head}"
    );
    assert!(!head.contains("proxy-") && !head.contains("via:"), "{head}");
}

#[tokio::test]
async fn http_proxy_that_resolves_gets_whole_urls() {
    let Some(tiny) = tinyproxy().await else {
        return;
    };
    let setting = Setting::new();
    let mut proxy = proxy(ProxyProtocol::Http, tiny.port);
    proxy.resolves = true;
    let (server, heads) = recorder().await;
    let url = format!("http://localhost:{}/x?y", server.port());
    let response = get(&through(&setting, &proxy), &url).await.unwrap();
    assert_eq!(text(response).await, "ok");
    let head = heads.lock().pop().unwrap().to_lowercase();
    assert!(head.starts_with("get /x?y http/1."), "{head}");
    assert!(
        head.contains("via:") && head.contains("tinyproxy"),
        "{head}"
    );
    assert!(!head.contains("proxy-authorization"), "{head}");
}

#[tokio::test]
async fn proxy_over_tls_must_prove_its_name() {
    let authority = Authority::new();
    let dns = Dns::constant("127.0.0.1").await;
    let (server, _) = recorder().await;
    let acceptor = authority.acceptor(&["proxy.example"], &[]);
    let tls = servers::raw(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                return;
            };
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            let to: SocketAddr = head.split(' ').nth(1).unwrap().parse().unwrap();
            let mut server = TcpStream::connect(to).await.unwrap();
            stream
                .write_all(b"HTTP/1.1 200 Tunnel\r\n\r\n")
                .await
                .unwrap();
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut server).await;
        }
    });
    let tls = tls.await;
    let url = format!("http://x.example:{}/", server.port());
    let mut proxy = proxy(ProxyProtocol::Https, tls.port());
    proxy.host = Host::parse("proxy.example").unwrap();
    let trusting = Setting::trusting(authority.root(), dns.address);
    let response = get(&through(&trusting, &proxy), &url).await.unwrap();
    assert_eq!(text(response).await, "ok");
    // A root of the rule is trusted for its proxy too.
    let setting = Setting::with_dns(dns.address);
    let egress = setting.open(|policy| {
        policy.rules[0].proxy = Some(proxy.clone());
        policy.rules[0].ca = vec![authority.root()];
    });
    assert_eq!(text(get(&egress, &url).await.unwrap()).await, "ok");
    let error = get(&through(&setting, &proxy), &url).await.unwrap_err();
    assert!(matches!(error, EgressError::Tls { .. }), "{error}");
    proxy.host = Host::parse("other.example").unwrap();
    let error = get(&through(&trusting, &proxy), &url).await.unwrap_err();
    assert!(matches!(error, EgressError::Tls { .. }), "{error}");
}

#[tokio::test]
async fn refused_address_reaches_no_proxy() {
    let dns = Dns::constant("10.0.0.1").await;
    let setting = Setting::with_dns(dns.address);
    let (server, heads) = answering(b"HTTP/1.1 200 OK\r\n\r\n").await;
    let mut proxy = proxy(ProxyProtocol::Http, server.port());
    let refused = |proxy: &Proxy, url: &'static str| {
        let egress = through(&setting, proxy);
        async move {
            let error = get(&egress, url).await.unwrap_err();
            assert!(error.refusal().is_some(), "{error}");
        }
    };
    refused(&proxy, "http://inside.example/").await;
    // An address is checked even where the proxy resolves names.
    proxy.resolves = true;
    refused(&proxy, "https://10.0.0.1/").await;
    refused(&proxy, "https://169.254.169.254/").await;
    assert!(setting.reasons().iter().all(|reason| matches!(
        reason,
        Reason::AddressNotAllowed(_) | Reason::HostNotAllowed
    )));
    assert_eq!(heads.lock().len(), 0);
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn proxy_is_asked_for_the_address_or_the_name() {
    let dns = Dns::constant("127.0.0.1").await;
    let setting = Setting::with_dns(dns.address);
    let (server, heads) =
        answering(b"HTTP/1.1 403 Forbidden by 10.1.2.3\r\ncontent-length: 6\r\n\r\nbanner").await;
    let mut proxy = proxy(ProxyProtocol::Http, server.port());
    let error = get(&through(&setting, &proxy), "https://a.example/")
        .await
        .unwrap_err();
    let shown = error.to_string();
    assert!(
        shown.ends_with("the proxy answered with the status 403"),
        "{shown}"
    );
    proxy.resolves = true;
    get(&through(&setting, &proxy), "https://a.example/")
        .await
        .unwrap_err();
    let heads = heads.lock().clone();
    assert!(
        heads[0].starts_with("CONNECT 127.0.0.1:443 HTTP/1.1\r\nhost: 127.0.0.1:443\r\n"),
        "{heads:?}"
    );
    let asked = heads.last().unwrap();
    assert!(
        asked.starts_with("CONNECT a.example:443 HTTP/1.1\r\nhost: a.example:443\r\n"),
        "{asked}"
    );
    // RFC 7617, 2: the user name and the password in Base64.
    assert!(
        asked.contains("proxy-authorization: Basic c3RvY2thZGU6cGxhbnRlZC1wYXNzd29yZA==\r\n"),
        "{asked}"
    );
}

#[tokio::test]
async fn hostile_proxy_costs_an_error() {
    let setting = Setting::new();
    let url = "http://127.0.0.1:9/";
    let endless: &'static [u8] = Box::leak(
        [
            b"HTTP/1.1 200 OK\r\n".as_slice(),
            &b"a: b\r\n".repeat(50_000),
        ]
        .concat()
        .into_boxed_slice(),
    );
    let cases: [(ProxyProtocol, &'static [u8]); 6] = [
        (ProxyProtocol::Http, b""),
        (ProxyProtocol::Http, b"\x00\x01\x02"),
        (
            ProxyProtocol::Http,
            b"HTTP/1.1 101 Switching\r\nupgrade: x\r\n\r\n",
        ),
        (ProxyProtocol::Http, endless),
        (ProxyProtocol::Socks5, b"\x05\x09"),
        (
            ProxyProtocol::Socks5,
            b"\x05\x02\x01\x00\x05\x00\x00\x03\xff",
        ),
    ];
    for (protocol, answer) in cases {
        let server = servers::raw(move |mut stream| async move {
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(answer).await;
            let _ = stream.shutdown().await;
        });
        let server = server.await;
        let error = get(&through(&setting, &proxy(protocol, server.port())), url)
            .await
            .unwrap_err();
        assert!(matches!(error, EgressError::Connect { .. }), "{error}");
        assert!(error.to_string().contains("the proxy"), "{error}");
    }
    // One that says nothing holds the request until its deadline.
    let silent = servers::raw(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    });
    let silent = silent.await;
    for protocol in [
        ProxyProtocol::Http,
        ProxyProtocol::Https,
        ProxyProtocol::Socks5,
    ] {
        let egress = setting.open(|policy| {
            policy.limits.connect_timeout = Duration::from_millis(100);
            policy.rules[0].proxy = Some(proxy(protocol, silent.port()));
        });
        let error = get(&egress, url).await.unwrap_err();
        assert!(matches!(error, EgressError::TimedOut { .. }), "{error}");
    }
}

#[tokio::test]
async fn websocket_and_sockets_go_through_the_proxy_of_their_rule() {
    let Some(socks) = microsocks().await else {
        return;
    };
    let Some(tiny) = tinyproxy().await else {
        return;
    };
    let setting = Setting::new();
    let echo = servers::raw(|mut stream| async move {
        let (mut read, mut write) = stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
    });
    let echo = echo.await;
    for proxy in [
        proxy(ProxyProtocol::Socks5, socks.port),
        proxy(ProxyProtocol::Http, tiny.port),
    ] {
        let sockets = setting.broker.sockets(
            "acme",
            SocketPolicy {
                rules: vec![SocketRule {
                    name: "test".into(),
                    hosts: vec![HostPattern::parse("127.0.0.1").unwrap()],
                    ports: vec![1..=65535],
                    tls: TlsUse::Off,
                    proxy: Some(proxy.clone()),
                    ..SocketRule::default()
                }],
                allow_private: vec!["127.0.0.0/8".parse().unwrap()],
                ..SocketPolicy::default()
            },
        );
        let target = |port| SocketTarget {
            host: "127.0.0.1".to_owned(),
            port,
            protocol: Protocol::Tcp,
            secure: Secure::Off,
            server_name: None,
        };
        let sockets = sockets.unwrap();
        let mut stream = sockets
            .clone()
            .connect(target(echo.port()))
            .await
            .unwrap()
            .stream;
        stream.write_all(b"hello").await.unwrap();
        let mut word = [0; 5];
        stream.read_exact(&mut word).await.unwrap();
        assert_eq!(&word, b"hello");
        // A closed port is an error of the target.
        let error = sockets.connect(target(free_port())).await.err().unwrap();
        assert!(matches!(error, EgressError::Connect { .. }), "{error}");

        let server = echo_server().await;
        let egress = through(&setting, &proxy);
        let url = format!("ws://{}/", server.address);
        let mut socket = egress.websocket(url, Vec::new()).await.unwrap();
        let word = SocketMessage::Text("word".to_owned());
        socket.to_upstream.send(word.clone()).await.unwrap();
        assert_eq!(socket.from_upstream.recv().await, Some(word));
    }
}

/// A server that answers with the certificate that it was shown, and closes.
async fn showing(authority: &Authority) -> Server {
    let acceptor = authority.demanding("api.example");
    servers::raw(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                return;
            };
            let shown = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
            while stream.read(&mut [0; 4096]).await.unwrap() == 4096 {}
            let head = format!(
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                shown.len()
            );
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.write_all(&shown).await;
            let _ = stream.shutdown().await;
        }
    })
    .await
}

fn der(path: &Path) -> Vec<u8> {
    CertificateDer::from_pem_file(path).unwrap().to_vec()
}

async fn shown(egress: &Arc<Egress>, url: &str) -> Vec<u8> {
    super::setting::bytes(get(egress, url).await.unwrap())
        .await
        .unwrap()
        .to_vec()
}

#[tokio::test]
async fn certificate_of_a_rule_is_shown_under_this_rule_only() {
    let authority = Authority::new();
    let dns = Dns::constant("127.0.0.1").await;
    let setting = Setting::with_dns(dns.address);
    let server = showing(&authority).await;
    let (certificate, key) = authority.identity("guest");
    let client = ClientCertificate {
        certificate: certificate.clone(),
        key,
    };
    let egress = setting.open(|policy: &mut EgressPolicy| {
        let with = |methods: &[http::Method], client| Rule {
            methods: Some(methods.to_vec()),
            ca: vec![authority.root()],
            client,
            ..rule(&["api.example"])
        };
        policy.rules = vec![
            with(&[http::Method::GET], Some(client)),
            with(&[http::Method::HEAD], None),
        ];
    });
    let url = format!("https://api.example:{}/", server.port());
    assert_eq!(shown(&egress, &url).await, der(&certificate));
    // The same server, by a rule without the certificate: not even a kept connection is used.
    let request = http::Request::head(&url)
        .body(super::setting::empty())
        .unwrap();
    let error = egress.clone().fetch(request).await.unwrap_err();
    assert!(
        !error
            .to_string()
            .contains(&authority.root().display().to_string()),
        "{error}"
    );
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn changed_certificate_is_shown_and_a_broken_one_is_not_used() {
    let authority = Authority::new();
    let dns = Dns::constant("127.0.0.1").await;
    let setting = Setting::with_dns(dns.address);
    let server = showing(&authority).await;
    let (certificate, key) = authority.identity("guest");
    let client = ClientCertificate {
        certificate: certificate.clone(),
        key: key.clone(),
    };
    let egress = setting.open(|policy| {
        policy.rules[0].ca = vec![authority.root()];
        policy.rules[0].client = Some(client);
    });
    let url = format!("https://api.example:{}/", server.port());
    let first = der(&certificate);
    assert_eq!(shown(&egress, &url).await, first);
    // Files without a certificate do not count.
    std::fs::write(&key, "nonsense").unwrap();
    let until = tokio::time::Instant::now() + Duration::from_secs(3);
    while tokio::time::Instant::now() < until {
        assert_eq!(shown(&egress, &url).await, first);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // New ones do, after a moment.
    authority.identity("guest");
    let second = der(&certificate);
    assert_ne!(first, second);
    while shown(&egress, &url).await != second {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // A rule whose files cannot be used is not opened at all.
    std::fs::write(&key, "nonsense").unwrap();
    let mut policy = setting.policy(|_| ());
    policy.rules[0].client = Some(ClientCertificate { certificate, key });
    assert!(
        setting
            .broker
            .egress("acme", policy, Default::default())
            .is_err()
    );
}
