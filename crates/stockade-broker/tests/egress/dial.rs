//! Connections to servers that the operator named.

use std::time::Duration;

use stockade_broker::{DialError, TlsClientOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use super::dns::Dns;
use super::servers;
use super::setting::Setting;
use super::tls::Authority;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

#[tokio::test]
async fn dial_reaches_a_private_server_by_name_and_by_address() {
    let server = servers::raw(|mut stream| async move {
        let _ = stream.write_all(b"hello").await;
    })
    .await;
    let dns = Dns::constant("127.0.0.1").await;
    let network = Setting::with_dns(dns.address).broker.network();
    for host in ["db.example", "127.0.0.1"] {
        let mut stream = network
            .dial(host, server.port(), None, soon())
            .await
            .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "hello");
    }
    // Resolved once: the second connection needs no name, and the name has one question.
    assert_eq!(dns.asked.lock().as_slice(), ["db.example"]);
    let error = network
        .dial("db example", server.port(), None, soon())
        .await
        .err();
    assert!(matches!(error, Some(DialError::Host(_))), "{error:?}");
}

#[tokio::test]
async fn dial_with_tls_believes_the_roots_that_are_named_and_no_other() {
    let (authority, other) = (Authority::new(), Authority::new());
    let acceptor = authority.acceptor(&["db.example"], &["db"]);
    let server = servers::raw(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let _ = stream.write_all(b"hello").await;
                let _ = stream.shutdown().await;
            }
        }
    })
    .await;
    let dns = Dns::constant("127.0.0.1").await;
    // What the instance trusts is not trusted where the grant names roots.
    let network = Setting::trusting(authority.root(), dns.address)
        .broker
        .network();
    let tls = |options: TlsClientOptions| network.tls(&options).unwrap();
    let trusted = TlsClientOptions {
        alpn: vec![b"db".to_vec()],
        ..TlsClientOptions::default()
    };
    let named = TlsClientOptions {
        server_name: Some("db.example".to_owned()),
        ca: vec![authority.root()],
        ..TlsClientOptions::default()
    };
    for (host, options) in [("db.example", trusted), ("127.0.0.1", named)] {
        let client = tls(options);
        let stream = network
            .dial(host, server.port(), Some(&client), soon())
            .await;
        let mut text = String::new();
        stream.unwrap().read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "hello", "{host}");
    }
    let elsewhere = TlsClientOptions {
        ca: vec![other.root()],
        ..TlsClientOptions::default()
    };
    for (host, options) in [
        ("db.example", elsewhere),
        ("other.example", TlsClientOptions::default()),
    ] {
        let client = tls(options);
        let error = network
            .dial(host, server.port(), Some(&client), soon())
            .await;
        let error = error.err().unwrap();
        assert!(matches!(error, DialError::Tls(_)), "{host}: {error}");
        assert!(!error.to_string().contains("127.0.0.1"), "{error}");
    }
    let wrong = TlsClientOptions {
        certificate: Some((b"none".to_vec(), b"none".to_vec())),
        ..TlsClientOptions::default()
    };
    assert!(network.tls(&wrong).is_err());
}

#[tokio::test]
async fn dial_ends_by_its_deadline() {
    // It accepts, and never says anything that TLS needs.
    let server = servers::raw(|stream| async move {
        let _stream = stream;
        std::future::pending::<()>().await;
    })
    .await;
    let network = Setting::new().broker.network();
    let client = network.tls(&TlsClientOptions::default()).unwrap();
    let deadline = Instant::now() + Duration::from_millis(50);
    let error = network
        .dial("127.0.0.1", server.port(), Some(&client), deadline)
        .await;
    assert_eq!(error.err(), Some(DialError::TimedOut));
}
