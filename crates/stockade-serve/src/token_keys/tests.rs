use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use parking_lot::Mutex;
use stockade_auth::{JwtAlgorithm, JwtOptions, JwtVerifier, TokenError};
use stockade_broker::BrokerOptions;
use stockade_config::TokenAlgorithm;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::*;

/// A provider that answers every request with what it was given last, over TLS.
struct Provider {
    answer: Arc<Mutex<String>>,
    /// Requests that were answered.
    answered: watch::Receiver<usize>,
    connections: Arc<AtomicUsize>,
    url: Uri,
    ca: tempfile::NamedTempFile,
}

impl Provider {
    async fn start(answer: String) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let ca = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(ca.path(), made.cert.pem()).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der());
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.unwrap())
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let answer = Arc::new(Mutex::new(answer));
        let (count, answered) = watch::channel(0);
        let connections = Arc::new(AtomicUsize::new(0));
        let (given, counted) = (Arc::clone(&answer), Arc::clone(&connections));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let (acceptor, given, count) =
                    (acceptor.clone(), Arc::clone(&given), count.clone());
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        match stream.read_u8().await {
                            Ok(byte) => head.push(byte),
                            Err(_) => return,
                        }
                    }
                    let text = given.lock().clone();
                    let _ = stream.write_all(text.as_bytes()).await;
                    let _ = stream.shutdown().await;
                    count.send_modify(|count| *count += 1);
                });
            }
        });
        Self {
            answer,
            answered,
            connections,
            url: format!("https://localhost:{port}/jwks.json")
                .parse()
                .unwrap(),
            ca,
        }
    }

    fn says(&self, answer: String) {
        *self.answer.lock() = answer;
    }

    /// Waits until as many requests were answered from now on.
    async fn until_answered(&self, more: usize) {
        let mut answered = self.answered.clone();
        let least = *answered.borrow() + more;
        answered.wait_for(|count| *count >= least).await.unwrap();
    }

    fn settings(&self, private: &[&str]) -> JwtAuth {
        JwtAuth {
            jwks: None,
            jwks_url: Some(self.url.clone()),
            jwks_refresh: Duration::from_millis(20),
            jwks_allow_private: private.iter().map(|one| one.parse().unwrap()).collect(),
            jwks_ca: vec![self.ca.path().to_owned()],
            algorithms: vec![TokenAlgorithm::EdDsa],
            issuer: Vec::new(),
            audience: Vec::new(),
            leeway: Duration::ZERO,
            claims: Vec::new(),
        }
    }

    async fn fetch(&self, pace: Pace, settings: &JwtAuth) -> (FetchedKeys, JwtVerifier) {
        let broker = Broker::new(BrokerOptions::default()).unwrap();
        let started = FetchedKeys::start_at(pace, &broker, "shop", settings, &self.url);
        let fetched = started.await.unwrap();
        let options = JwtOptions {
            algorithms: vec![JwtAlgorithm::EdDsa],
            issuers: Vec::new(),
            audiences: Vec::new(),
            leeway: Duration::ZERO,
            claims: Vec::new(),
        };
        let verifier = JwtVerifier::new(Arc::clone(&fetched.keys), options);
        (fetched, verifier)
    }
}

const LOOPBACK: &[&str] = &["127.0.0.0/8", "::1/128"];

const OFTEN: Pace = Pace {
    least: Duration::from_millis(5),
    first_retry: Duration::from_millis(5),
};

fn response(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{headers}connection: close\r\n\r\n{body}"
    )
}

/// An answer with a set that has one key.
fn set(id: &str) -> String {
    // A point of small order, as one of zeros is, would fit the signature of zeros below.
    let x = "I".repeat(43);
    let body = format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"{id}","x":"{x}"}}]}}"#);
    response("200 OK", "", &body)
}

/// Whether there is a key of this id: then the wrong signature is what a token is refused for.
fn knows(verifier: &JwtVerifier, id: &str) -> bool {
    use base64::Engine as _;
    let part = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    let header = part(&format!(r#"{{"alg":"EdDSA","kid":"{id}"}}"#));
    let token = format!("{header}.{}.{}", part("{}"), "A".repeat(86));
    match verifier.check(token.as_bytes(), SystemTime::now()) {
        Err(TokenError::Signature) => true,
        Err(TokenError::Key) => false,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn keys_follow_the_provider_and_stay_while_it_fails() {
    let provider = Provider::start(set("a")).await;
    let settings = provider.settings(LOOPBACK);
    let (_fetched, verifier) = provider.fetch(OFTEN, &settings).await;
    assert!(knows(&verifier, "a") && !knows(&verifier, "b"));
    // Each of these comes twice at least, and changes nothing.
    for wrong in [
        response("500 Internal Server Error", "", "oops"),
        response("302 Found", "location: https://elsewhere.example/\r\n", ""),
        response("200 OK", "", "<html>"),
        response("200 OK", "", r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#),
        response("200 OK", "", &" ".repeat(2 << 20)),
        "HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{".to_owned(),
        "nonsense".to_owned(),
    ] {
        provider.says(wrong);
        provider.until_answered(2).await;
        assert!(knows(&verifier, "a"));
    }
    provider.says(set("b"));
    while !knows(&verifier, "b") {
        tokio::task::yield_now().await;
    }
    assert!(!knows(&verifier, "a"));
    // A set without keys takes the last one back.
    provider.says(response("200 OK", "", r#"{"keys":[]}"#));
    while knows(&verifier, "b") {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn token_with_a_new_key_has_the_set_fetched_and_a_flood_of_them_does_not() {
    let provider = Provider::start(set("a")).await;
    let mut settings = provider.settings(LOOPBACK);
    settings.jwks_refresh = Duration::from_secs(3600);
    let (_fetched, verifier) = provider.fetch(OFTEN, &settings).await;
    assert!(knows(&verifier, "a"));
    provider.says(set("b"));
    // Nothing is fetched in this hour except for this token.
    while !knows(&verifier, "b") {
        tokio::task::yield_now().await;
    }

    // Another provider, because the last one may still be asked.
    let provider = Provider::start(set("b")).await;
    let mut settings = provider.settings(LOOPBACK);
    settings.jwks_refresh = Duration::from_secs(3600);
    let seldom = Pace {
        least: Duration::from_secs(3600),
        ..OFTEN
    };
    let (_fetched, verifier) = provider.fetch(seldom, &settings).await;
    for number in 0..1000 {
        assert!(!knows(&verifier, &number.to_string()));
    }
    // Another one, so that what the flood may have caused has come before it.
    let (_other, other) = provider.fetch(seldom, &settings).await;
    assert!(knows(&other, "b"));
    assert_eq!(*provider.answered.borrow(), 2);
}

#[tokio::test]
async fn private_address_is_refused_unless_it_is_allowed() {
    let provider = Provider::start(set("a")).await;
    for private in [&[][..], &["10.0.0.0/8"]] {
        let (_fetched, verifier) = provider.fetch(OFTEN, &provider.settings(private)).await;
        assert!(!knows(&verifier, "a"));
    }
    assert_eq!(provider.connections.load(Ordering::SeqCst), 0);
    let (_fetched, verifier) = provider.fetch(OFTEN, &provider.settings(LOOPBACK)).await;
    assert!(knows(&verifier, "a"));
}

#[tokio::test]
async fn provider_whose_certificate_is_not_trusted_is_not_believed() {
    let provider = Provider::start(set("a")).await;
    let mut settings = provider.settings(LOOPBACK);
    settings.jwks_ca = Vec::new();
    let (_fetched, verifier) = provider.fetch(OFTEN, &settings).await;
    assert!(!knows(&verifier, "a"));
    assert_eq!(*provider.answered.borrow(), 0);
}

#[test]
fn freshness_is_the_age_that_the_answer_names() {
    let of = |value: &'static str| {
        let mut headers = HeaderMap::new();
        headers.insert(CACHE_CONTROL, http::HeaderValue::from_static(value));
        freshness(&headers).map(|time| time.as_secs())
    };
    assert_eq!(of("public, max-age=300, must-revalidate"), Some(300));
    assert_eq!(of("Max-Age=5"), Some(5));
    assert_eq!(of("no-store"), None);
    assert_eq!(of("max-age=-1"), None);
    assert_eq!(of("s-maxage=7"), None);
}
