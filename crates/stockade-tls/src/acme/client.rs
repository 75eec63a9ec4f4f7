//! How the ACME server is asked: over TLS only, one connection for each request, bounded in time and
//! size. A handful of requests every few weeks needs no pool.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::leaf::{certificates, der_problem};
use crate::pem;
use crate::problem::{TlsProblem, Wrong};

/// Most time for one request with its answer.
const TIME: Duration = Duration::from_secs(30);
/// Most bytes of an answer; the largest is a chain of certificates.
const ANSWER: usize = 1024 * 1024;

/// Sends each request on a connection of its own.
#[derive(Clone)]
pub(crate) struct DirectClient(TlsConnector);

impl DirectClient {
    /// Verifies the server with the authorities in `server_ca`, or with the public ones.
    pub(crate) fn new(
        server_ca: Option<&Path>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, TlsProblem> {
        let mut roots = RootCertStore::empty();
        match server_ca {
            Some(file) => {
                let bytes = pem::read(file, pem::CERTIFICATES_LIMIT, "certificate")?;
                for block in certificates(file, &bytes)? {
                    let line = block.line;
                    roots
                        .add(CertificateDer::from(block.der))
                        .map_err(|e| der_problem(file, line, e.to_string()))?;
                }
            }
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        }
        let builder = ClientConfig::builder_with_provider(provider.clone());
        let mut config = match builder.with_safe_default_protocol_versions() {
            Ok(builder) => builder.with_root_certificates(roots).with_no_client_auth(),
            Err(e) => {
                return Err(TlsProblem {
                    file: None,
                    line: None,
                    what: Wrong::Unusable(e.to_string()),
                });
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }
}

impl HttpClient for DirectClient {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let connector = self.0.clone();
        Box::pin(async move {
            match timeout(TIME, send(connector, request)).await {
                Ok(answer) => answer.map(BytesResponse::from).map_err(Error::Other),
                Err(_) => Err(Error::Str("the ACME server took more than 30 s to answer")),
            }
        })
    }
}

async fn send(
    connector: TlsConnector,
    mut request: Request<BodyWrapper<Bytes>>,
) -> Result<Response<Full<Bytes>>, Box<dyn std::error::Error + Send + Sync>> {
    let uri = request.uri().clone();
    if uri.scheme_str() != Some("https") {
        return Err(format!("{uri} is not a URL for https").into());
    }
    let authority = uri.authority().ok_or("the URL names no host")?;
    let host = authority
        .host()
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let port = authority.port_u16().unwrap_or(443);
    let name = ServerName::try_from(host.clone())?;
    let tcp = TcpStream::connect((host.as_str(), port))
        .await
        .map_err(|e| format!("{host}:{port}: {e}"))?;
    let tls = connector
        .connect(name, tcp)
        .await
        .map_err(|e| format!("{host}:{port}: {e}"))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls)).await?;
    let driver = tokio::spawn(connection);
    request
        .headers_mut()
        .insert(HOST, HeaderValue::from_str(authority.as_str())?);
    let path = uri
        .path_and_query()
        .cloned()
        .unwrap_or(PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from(path);
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = Limited::new(body, ANSWER).collect().await;
    driver.abort();
    Ok(Response::from_parts(head, Full::new(body?.to_bytes())))
}
