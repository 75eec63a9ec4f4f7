//! TLS: who is believed, and what is spoken.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::Version;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use stockade_broker::{Broker, BrokerError, BrokerOptions, EgressError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;

use super::dns::Dns;
use super::servers::{self, reply};
use super::setting::{Setting, get, text};

/// A certificate authority of a case.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("authority {}", COUNT.fetch_add(1, Ordering::Relaxed));
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("root.pem"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("root.pem")
    }

    pub(crate) fn acceptor(&self, names: &[&str], protocols: &[&str]) -> TlsAcceptor {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(names).unwrap();
        self.accept(params, key, protocols)
    }

    /// Files of a certificate and its key, for a client.
    pub(crate) fn identity(&self, name: &str) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let path = |end: &str| self.folder.path().join(format!("{name}.{end}"));
        std::fs::write(path("pem"), certificate.pem()).unwrap();
        std::fs::write(path("key"), key.serialize_pem()).unwrap();
        (path("pem"), path("key"))
    }

    /// As [`Authority::acceptor`], for clients that show a certificate of this authority.
    pub(crate) fn demanding(&self, name: &str) -> TlsAcceptor {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let (certificate, key) = self.identity(name);
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(
                vec![CertificateDer::from_pem_file(certificate).unwrap()],
                PrivateKeyDer::from_pem_file(key).unwrap(),
            );
        TlsAcceptor::from(Arc::new(config.unwrap()))
    }

    fn accept(&self, params: CertificateParams, key: KeyPair, protocols: &[&str]) -> TlsAcceptor {
        let certificate: CertificateDer<'static> =
            params.signed_by(&key, &self.issuer).unwrap().der().clone();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config =
            ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![certificate], key)
                .unwrap();
        config.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        TlsAcceptor::from(Arc::new(config))
    }
}

async fn versions(authority: &Authority, protocols: &[&str]) -> servers::Server {
    servers::https(
        authority.acceptor(&["api.example"], protocols),
        |request| async move {
            let host = match request.version() {
                Version::HTTP_2 => request.uri().authority().map(ToString::to_string),
                _ => request
                    .headers()
                    .get("host")
                    .map(|host| host.to_str().unwrap().to_owned()),
            };
            reply(format!(
                "{:?} {}",
                request.version(),
                host.unwrap_or_default()
            ))
        },
    )
    .await
}

#[tokio::test]
async fn server_with_a_certificate_of_a_trusted_root_is_spoken_to_by_http2_or_http1() {
    let authority = Authority::new();
    let dns = Dns::constant("127.0.0.1").await;
    let setting = Setting::trusting(authority.root(), dns.address);
    let egress = setting.open(|_| ());
    for (protocols, version) in [
        (&["h2", "http/1.1"][..], "HTTP/2.0"),
        (&["http/1.1"], "HTTP/1.1"),
        (&[], "HTTP/1.1"),
    ] {
        let server = versions(&authority, protocols).await;
        let url = format!("https://api.example:{}/", server.port());
        let expected = format!("{version} api.example:{}", server.port());
        assert_eq!(text(get(&egress, &url).await.unwrap()).await, expected);
    }
}

#[tokio::test]
async fn many_requests_at_once_share_a_connection_over_http2() {
    let authority = Authority::new();
    let dns = Dns::constant("127.0.0.1").await;
    let setting = Setting::trusting(authority.root(), dns.address);
    let egress = setting.open(|_| ());
    let server = versions(&authority, &["h2"]).await;
    let url = format!("https://api.example:{}/", server.port());
    assert!(
        text(get(&egress, &url).await.unwrap())
            .await
            .starts_with("HTTP/2.0")
    );
    let many = (0..30).map(|_| async { text(get(&egress, &url).await.unwrap()).await });
    for answer in futures_util::future::join_all(many).await {
        assert!(answer.starts_with("HTTP/2.0"), "{answer}");
    }
    assert_eq!(server.connections(), 1);
    let other = setting
        .broker
        .egress("other", setting.policy(|_| ()), Default::default())
        .unwrap();
    assert!(
        text(get(&other, &url).await.unwrap())
            .await
            .starts_with("HTTP/2.0")
    );
    assert_eq!(
        server.connections(),
        2,
        "another instance has connections of its own"
    );
}

#[tokio::test]
async fn server_that_cannot_prove_its_name_is_not_spoken_to() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let dns = Dns::constant("127.0.0.1").await;
    let setting = Setting::trusting(ours.root(), dns.address);
    let egress = setting.open(|_| ());
    let mut expired = CertificateParams::new(vec!["api.example".to_owned()]).unwrap();
    expired.not_before = rcgen::date_time_ymd(2001, 1, 1);
    expired.not_after = rcgen::date_time_ymd(2002, 1, 1);
    for (acceptor, why) in [
        (theirs.acceptor(&["api.example"], &[]), "UnknownIssuer"),
        (ours.acceptor(&["other.example"], &[]), "not valid for name"),
        (
            ours.accept(expired, KeyPair::generate().unwrap(), &[]),
            "expired",
        ),
    ] {
        let server = servers::https(acceptor, |_| async { reply("never") }).await;
        let url = format!("https://api.example:{}/", server.port());
        let error = get(&egress, &url).await.unwrap_err();
        assert!(matches!(error, EgressError::Tls { .. }), "{error}");
        assert!(error.to_string().contains(why), "{error}");
    }
    // No TLS at all on the other end.
    let (plain, _) = servers::recorder().await;
    let error = get(&egress, &format!("https://api.example:{}/", plain.port()))
        .await
        .unwrap_err();
    let is_closed = matches!(
        error,
        EgressError::Tls { .. } | EgressError::TimedOut { .. }
    );
    assert!(is_closed, "{error}");
}

#[test]
fn file_of_roots_that_has_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("roots.pem");
    for content in [
        None,
        Some(""),
        Some("no certificate"),
        Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
    ] {
        if let Some(content) = content {
            std::fs::write(&path, content).unwrap();
        }
        let options = BrokerOptions {
            extra_roots: vec![path.clone()],
            ..BrokerOptions::default()
        };
        let refused = Broker::new(options).map(|_| ());
        assert!(
            matches!(refused, Err(BrokerError::Roots { .. })),
            "{content:?}"
        );
    }
}

/// A server over HTTP/2 that speaks frames by hand.
async fn frames(authority: &Authority, frames: Vec<u8>, again: Vec<u8>) -> servers::Server {
    let acceptor = authority.acceptor(&["api.example"], &["h2"]);
    servers::raw(move |stream| {
        let (acceptor, frames, again) = (acceptor.clone(), frames.clone(), again.clone());
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                return;
            };
            let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
            let _ = stream.write_all(&settings).await;
            // The client's preface, its settings and more: the request is on stream 1.
            let mut buffer = [0; 4096];
            let _ = stream.read(&mut buffer).await;
            let _ = stream.write_all(&frames).await;
            while !again.is_empty() && stream.write_all(&again).await.is_ok() {}
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
        }
    })
    .await
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

#[tokio::test]
async fn server_that_floods_over_http2_is_given_up_within_bounds() {
    let authority = Authority::new();
    let dns = Dns::constant("127.0.0.1").await;
    let setting = Setting::trusting(authority.root(), dns.address);
    let egress = setting.open(|policy| {
        policy.limits.head_timeout = std::time::Duration::from_secs(2);
        policy.limits.request_timeout = std::time::Duration::from_secs(2);
        policy.limits.max_response_bytes = 100_000;
    });
    // A literal field without indexing, name `x`, and a value of 100 bytes; 0x88 is `:status: 200`.
    let field = [&[0, 1, b'x', 100][..], &[b'v'; 100]].concat();
    let endless_header = frame(1, 0, 1, &[0x88]);
    let continued = frame(9, 0, 1, &field.repeat(100));
    let head = frame(1, 4, 1, &[0x88]);
    let pings = frame(6, 0, 0, &[0; 8]).repeat(100);
    let settings = frame(4, 0, 0, &[]).repeat(100);
    let data_of_no_stream = frame(0, 0, 7, &[0; 100]);
    let data_unexpected = frame(0, 0, 1, &[0; 16_000]);
    let resets = [frame(3, 0, 1, &[0, 0, 0, 8])].concat();
    for (name, first, again) in [
        ("header without end", endless_header, continued),
        ("pings", Vec::new(), pings),
        ("settings", Vec::new(), settings),
        ("data of no stream", head.clone(), data_of_no_stream),
        ("data beyond the window", head, data_unexpected),
        ("a reset", resets, Vec::new()),
        (
            "no frames",
            b"HTTP/1.1 200 OK\r\n\r\n".repeat(10),
            Vec::new(),
        ),
    ] {
        let server = frames(&authority, first, again).await;
        let url = format!("https://api.example:{}/", server.port());
        let failed = match get(&egress, &url).await {
            Ok(response) => super::setting::bytes(response).await.is_err(),
            Err(_) => true,
        };
        assert!(failed, "{name}");
    }
}
