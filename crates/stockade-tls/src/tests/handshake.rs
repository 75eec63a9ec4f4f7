//! Versions, names, kinds of keys, odd first messages.

use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use rustls::version::{TLS12, TLS13};
use rustls::{HandshakeKind, NamedGroup};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::authority::{Authority, DAY, Wish};
use super::peer::{Client, Server, shown};
use crate::{AcceptError, TlsEvent, TlsOptions, TlsStore, TlsVersion};

fn options(authority: &Authority, labels: &[&str]) -> TlsOptions {
    let pairs = labels.iter().map(|label| {
        authority.server(
            label.trim_start_matches("*."),
            Wish {
                names: &[label],
                ..Wish::default()
            },
        )
    });
    TlsOptions {
        certificates: pairs.collect(),
        ..TlsOptions::default()
    }
}

#[tokio::test]
async fn accept_of_both_versions_reports_facts() {
    let authority = Authority::new("root");
    let mut server = Server::start(options(&authority, &["a.example"])).await;
    for (version, text) in [(&TLS12, "TLSv1.2"), (&TLS13, "TLSv1.3")] {
        let client = Client::with(&authority, None, &[version])
            .changed(|config| config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()]);
        let (connection, _stream) = server.connected(&client, "a.example").await;
        assert_eq!(connection.client.version, text);
        assert!(
            connection.client.cipher.contains("AES_256_GCM"),
            "{}",
            connection.client.cipher
        );
        assert_eq!(connection.client.sni.as_deref(), Some("a.example"));
        assert!(connection.http2 && connection.client.certificate.is_none());
        assert!(server.store.check("a.example:8443", &connection).is_ok());
    }
}

#[tokio::test]
async fn accept_prefers_key_exchange_that_lasts() {
    let authority = Authority::new("root");
    let mut server = Server::start(options(&authority, &["a.example"])).await;
    let hybrid = NamedGroup::X25519MLKEM768;
    for (known, expect) in [(true, hybrid), (false, NamedGroup::X25519)] {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        provider
            .kx_groups
            .sort_by_key(|group| group.name() != hybrid);
        provider
            .kx_groups
            .retain(|group| known || group.name() != hybrid);
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority.der.clone()).unwrap();
        let config = rustls::ClientConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (_, stream) = server.connected(&Client(config.into()), "a.example").await;
        let used = stream.get_ref().1.negotiated_key_exchange_group().unwrap();
        assert_eq!(used.name(), expect);
    }
}

#[tokio::test]
async fn accept_without_common_protocol_is_refused() {
    let authority = Authority::new("root");
    let mut server = Server::start(options(&authority, &["a.example"])).await;
    // Another protocol's client must not be led here (ALPACA).
    let client = Client::new(&authority, None)
        .changed(|config| config.alpn_protocols = vec![b"smtp".to_vec(), b"acme-tls/1".to_vec()]);
    let (_, reported) = server.refused(&client, "a.example").await;
    assert!(reported.contains("NoApplicationProtocol"), "{reported}");
}

#[tokio::test]
async fn accept_below_min_version_is_refused() {
    let authority = Authority::new("root");
    let mut server = Server::start(TlsOptions {
        min_version: TlsVersion::V13,
        ..options(&authority, &["a.example"])
    })
    .await;
    let client = Client::with(&authority, None, &[&TLS12]);
    let (error, reported) = server.refused(&client, "a.example").await;
    assert_eq!(error.reason(), "incompatible");
    assert!(reported.contains("ProtocolVersion"), "{reported}");
}

#[tokio::test]
async fn accept_chooses_certificate_by_name() {
    let authority = Authority::new("root");
    let mut server = Server::start(options(
        &authority,
        &["a.example", "*.b.example", "c.b.example"],
    ))
    .await;
    let client = Client::new(&authority, None);
    for name in ["a.example", "A.EXAMPLE", "x.b.example", "c.b.example"] {
        let (_, stream) = server.connected(&client, name).await;
        let facts = server.store.certificates();
        let fingerprint = crate::subject::fingerprint(&shown(&stream));
        let used = facts
            .iter()
            .find(|facts| facts.fingerprint_sha256 == fingerprint)
            .unwrap();
        let expect = if name == "x.b.example" {
            "*.b.example".to_owned()
        } else {
            name.to_lowercase()
        };
        assert_eq!(used.names, [expect]);
    }
}

#[tokio::test]
async fn accept_of_unknown_name_shows_first_certificate_unless_strict() {
    let authority = Authority::new("root");
    let mut lax = Server::start(options(&authority, &["a.example"])).await;
    let client = Client::new(&authority, None);
    let reported = client
        .connect(lax.address, "other.example")
        .await
        .unwrap_err()
        .to_string();
    assert!(reported.contains("not valid for name"), "{reported}");
    assert_eq!(lax.next().await.unwrap_err().reason(), "alert");

    let mut strict = Server::start(TlsOptions {
        strict_sni: true,
        ..options(&authority, &["a.example", "*.b.example"])
    })
    .await;
    for name in ["other.example", "x.y.b.example", "b.example"] {
        let (error, reported) = strict.refused(&client, name).await;
        assert_eq!(error.reason(), "unknown_name");
        assert!(reported.contains("UnrecognisedName"), "{reported}");
    }
    let no_sni = client.changed(|config| config.enable_sni = false);
    let (error, _) = strict.refused(&no_sni, "a.example").await;
    assert!(matches!(error, AcceptError::UnknownName(None)));
}

#[tokio::test]
async fn accept_with_two_kinds_of_key_suits_the_client() {
    let authority = Authority::new("root");
    let rsa = authority.server(
        "rsa",
        Wish {
            key: Some(KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap()),
            ..Wish::default()
        },
    );
    let ecdsa = authority.server("ecdsa", Wish::default());
    let mut server = Server::start(TlsOptions {
        certificates: vec![rsa, ecdsa],
        ..TlsOptions::default()
    })
    .await;
    let client = Client::new(&authority, None);
    let (connection, _stream) = server.connected(&client, "a.example").await;
    assert_eq!(connection.client.version, "TLSv1.3");

    let only = |suite: &'static str| {
        Client::with(&authority, None, &[&TLS12]).changed(|config| {
            let mut provider = rustls::crypto::CryptoProvider::clone(config.crypto_provider());
            provider
                .cipher_suites
                .retain(|s| s.suite().as_str().unwrap().contains(suite));
            *config = rustls::ClientConfig::builder_with_provider(provider.into())
                .with_protocol_versions(&[&TLS12])
                .unwrap()
                .with_root_certificates({
                    let mut roots = rustls::RootCertStore::empty();
                    roots.add(authority.der.clone()).unwrap();
                    roots
                })
                .with_no_client_auth();
        })
    };
    for suite in ["ECDHE_RSA", "ECDHE_ECDSA"] {
        let (connection, _stream) = server.connected(&only(suite), "a.example").await;
        assert!(
            connection.client.cipher.contains(suite),
            "{}",
            connection.client.cipher
        );
    }
}

#[tokio::test]
async fn accept_again_resumes_without_early_data() {
    let authority = Authority::new("root");
    let mut server = Server::start(options(&authority, &["a.example"])).await;
    for version in [&TLS12, &TLS13] {
        let client = Client::with(&authority, None, &[version]).changed(|config| {
            config.enable_early_data = true;
        });
        let (first, _stream) = server.connected(&client, "a.example").await;
        let (second, stream) = server.connected(&client, "a.example").await;
        assert!(!first.resumed && second.resumed, "{}", first.client.version);
        let session = stream.get_ref().1;
        assert_eq!(session.handshake_kind(), Some(HandshakeKind::Resumed));
        assert!(!session.is_early_data_accepted());
    }
}

#[tokio::test]
async fn accept_of_expired_certificate_is_refused_and_reported() {
    let authority = Authority::new("root");
    let old = authority.server(
        "old",
        Wish {
            names: &["old.example"],
            from: -90 * DAY,
            to: -DAY,
            ..Wish::default()
        },
    );
    let good = authority.server("good", Wish::default());
    let mut server = Server::start(TlsOptions {
        certificates: vec![good, old],
        ..TlsOptions::default()
    })
    .await;
    assert!(server.events.any(
        |event| matches!(event, TlsEvent::Expired { what, .. } if what.contains("old.example"))
    ));
    let client = Client::new(&authority, None);
    let (error, reported) = server.refused(&client, "old.example").await;
    assert_eq!(error.reason(), "certificate_expired");
    assert!(reported.contains("Expired"), "{reported}");
    server.connected(&client, "a.example").await;
}

#[tokio::test]
async fn accept_of_first_message_in_pieces_works() {
    let authority = Authority::new("root");
    let server = options(&authority, &["a.example"]);
    let mut server = Server::start(server).await;
    // A relay that sends one byte at a time, each in a packet of its own.
    let relay = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = relay.local_addr().unwrap();
    let to = server.address;
    tokio::spawn(async move {
        let (client, _) = relay.accept().await.unwrap();
        let server = TcpStream::connect(to).await.unwrap();
        server.set_nodelay(true).unwrap();
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
        let mut byte = [0];
        while let Ok(1) = from_client.read(&mut byte).await {
            to_server.write_all(&byte).await.unwrap();
            tokio::task::yield_now().await;
        }
    });
    // Post-quantum key shares and many protocols make it larger than a packet.
    let client = Client::new(&authority, None).changed(|config| {
        config.alpn_protocols = (0..200).map(|i| format!("x-{i}").into_bytes()).collect();
        config.alpn_protocols.push(b"http/1.1".to_vec());
    });
    client.connect(at, "a.example").await.unwrap();
    assert!(!server.next().await.unwrap().http2);
}

#[tokio::test]
async fn accept_of_endless_first_message_is_refused() {
    let authority = Authority::new("root");
    let mut server = Server::start(options(&authority, &["a.example"])).await;
    let mut io = TcpStream::connect(server.address).await.unwrap();
    // Handshake records that together claim a ClientHello of 16 MiB.
    let mut record = vec![22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff];
    record.resize(5 + 0x4000, 0);
    let mut sent = 0;
    while sent < 16 << 20 && io.write_all(&record).await.is_ok() {
        sent += record.len();
        record[5..9].fill(0);
    }
    assert_eq!(server.next().await.unwrap_err().reason(), "hello");
    assert!(sent < 8 << 20, "took {sent} bytes");
}

#[tokio::test]
async fn accept_of_plain_http_is_answered() {
    let authority = Authority::new("root");
    let mut server = Server::start(options(&authority, &["a.example"])).await;
    let mut io = TcpStream::connect(server.address).await.unwrap();
    io.write_all(b"GET / HTTP/1.1\r\nhost: a.example\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let _ = io.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.0 400 ") && answer.ends_with("This port speaks HTTPS.\n"));
    assert!(matches!(server.next().await, Err(AcceptError::PlainHttp)));
}

#[tokio::test]
async fn accept_of_stalled_clients_holds_up_nobody() {
    let authority = Authority::new("root");
    let mut server = Server::start(TlsOptions {
        computing_handshakes: 1,
        waiting_handshakes: 1,
        ..options(&authority, &["a.example"])
    })
    .await;
    // Each says hello, reads the server's answer, which took a turn to compute, and then nothing more.
    let client = Client::new(&authority, None);
    let mut stalled = Vec::new();
    for _ in 0..20 {
        let name = rustls::pki_types::ServerName::try_from("a.example").unwrap();
        let mut session = rustls::ClientConnection::new(client.0.clone(), name).unwrap();
        let mut hello = Vec::new();
        session.write_tls(&mut hello).unwrap();
        let mut io = TcpStream::connect(server.address).await.unwrap();
        io.write_all(&hello).await.unwrap();
        let mut record = [0; 5];
        io.read_exact(&mut record).await.unwrap();
        assert_eq!(record[0], 22, "a handshake record");
        stalled.push(io);
    }
    server.connected(&client, "a.example").await;
}

#[tokio::test]
async fn accept_beyond_waiting_limit_is_refused() {
    let authority = Authority::new("root");
    let mut server = Server::start(TlsOptions {
        waiting_handshakes: 0,
        ..options(&authority, &["a.example"])
    })
    .await;
    let (error, _) = server
        .refused(&Client::new(&authority, None), "a.example")
        .await;
    assert_eq!(error.reason(), "busy");
}

#[test]
fn load_of_bad_files_names_all_with_fix() {
    let authority = Authority::new("root");
    let folder = authority.folder.path();
    let good = authority.server("good", Wish::default());
    let other = authority.server("other", Wish::default());
    let weak = std::process::Command::new("openssl")
        .args([
            "req", "-x509", "-newkey", "rsa:1024", "-nodes", "-subj", "/CN=weak", "-addext",
        ])
        .arg("subjectAltName=DNS:weak.example")
        .args(["-keyout", "weak.key", "-out", "weak.crt"])
        .current_dir(folder)
        .output();
    let file = |name: &str| folder.join(name);
    std::fs::write(file("empty"), "").unwrap();
    std::fs::write(
        file("request"),
        "-----BEGIN CERTIFICATE REQUEST-----\nAA==\n-----END CERTIFICATE REQUEST-----",
    )
    .unwrap();
    std::fs::write(
        file("locked"),
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA==\n-----END ENCRYPTED PRIVATE KEY-----",
    )
    .unwrap();
    std::fs::write(
        file("broken"),
        "\n\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
    )
    .unwrap();
    let good_pem = std::fs::read_to_string(&good.cert).unwrap();
    std::fs::write(
        file("disorder"),
        format!("{good_pem}{}{}", other_authority().pem, authority.pem),
    )
    .unwrap();
    let nameless = authority.server(
        "nameless",
        Wish {
            names: &[],
            ..Wish::default()
        },
    );
    let client = authority.server(
        "client",
        Wish {
            client: true,
            ..Wish::default()
        },
    );
    let pair = |cert: std::path::PathBuf, key: std::path::PathBuf| crate::CertificateFiles {
        cert,
        key,
        ocsp: None,
    };
    let mut certificates = vec![
        (
            pair(file("missing"), good.key.clone()),
            "missing: cannot be read",
        ),
        (
            pair(file("empty"), good.key.clone()),
            "empty: holds nothing where a certificate (PEM) is needed",
        ),
        (
            pair(file("request"), good.key.clone()),
            "request:1: holds a block \"CERTIFICATE REQUEST\"",
        ),
        (
            pair(good.cert.clone(), file("locked")),
            "locked:1: holds an encrypted private key",
        ),
        (
            pair(good.cert.clone(), other.key.clone()),
            "other.key: is not the key of the certificate in",
        ),
        (
            pair(good.cert.clone(), good.cert.clone()),
            "good.crt: holds a block \"CERTIFICATE\" where a private key",
        ),
        (
            pair(file("broken"), good.key.clone()),
            "broken:3: holds a certificate that cannot be decoded",
        ),
        (
            pair(file("disorder"), good.key.clone()),
            "certificate 2 (CN=other) did not issue the one before it (CN=someone,O=Tests, issued by CN=root)",
        ),
        (nameless, "has no subjectAltName"),
        (client, "lacks serverAuth"),
    ];
    if weak.is_ok_and(|output| output.status.success()) {
        certificates.push((
            pair(file("weak.crt"), file("weak.key")),
            "an RSA key of 1024 bits",
        ));
    }
    let options = TlsOptions {
        certificates: certificates
            .iter()
            .map(|(files, _)| files.clone())
            .collect(),
        ..TlsOptions::default()
    };
    let text = TlsStore::load(options, None, std::sync::Arc::new(()))
        .unwrap_err()
        .to_string();
    for (_, expect) in certificates {
        assert!(text.contains(expect), "{expect}\n--- not in\n{text}");
    }
}

fn other_authority() -> Authority {
    Authority::new("other")
}

#[test]
fn load_of_expired_fails_only_where_configured() {
    let authority = Authority::new("root");
    let old = authority.server(
        "old",
        Wish {
            from: -9 * DAY,
            to: -DAY,
            ..Wish::default()
        },
    );
    let soon = authority.server(
        "soon",
        Wish {
            from: DAY,
            ..Wish::default()
        },
    );
    let options = TlsOptions {
        certificates: vec![old, soon],
        ..TlsOptions::default()
    };
    assert!(TlsStore::load(options.clone(), None, std::sync::Arc::new(())).is_ok());
    let strict = TlsOptions {
        on_expired: crate::OnExpired::Fail,
        ..options
    };
    let text = TlsStore::load(strict, None, std::sync::Arc::new(()))
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("expired on 20") && text.contains("is not valid before 20"),
        "{text}"
    );
}
