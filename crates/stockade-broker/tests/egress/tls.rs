//! TLS: who is believed, and what is spoken.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::Version;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use stockade_broker::{Broker, BrokerError, BrokerOptions, EgressError};
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
        .egress("other", setting.policy(|_| ()), Default::default());
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
