//! A server over loopback that makes one handshake after the other, and clients of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::authority::{Authority, Signed};
use crate::{AcceptError, Acme, ConnectionTls, TlsEvent, TlsObserver, TlsOptions, TlsStore};

const PATIENCE: Duration = Duration::from_secs(20);

/// Keeps all events.
#[derive(Default)]
pub(super) struct Events {
    all: Mutex<Vec<TlsEvent>>,
    changed: tokio::sync::Notify,
}

impl TlsObserver for Events {
    fn event(&self, event: &TlsEvent) {
        self.all.lock().push(event.clone());
        self.changed.notify_waiters();
    }
}

impl Events {
    pub(super) fn any(&self, wanted: impl Fn(&TlsEvent) -> bool) -> bool {
        self.all.lock().iter().any(wanted)
    }

    pub(super) fn count(&self, wanted: impl Fn(&TlsEvent) -> bool) -> usize {
        self.all.lock().iter().filter(|event| wanted(event)).count()
    }

    /// Waits for an event, also one that was already reported.
    pub(super) async fn wait_for(&self, wanted: impl Fn(&TlsEvent) -> bool) {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if self.any(&wanted) {
                    return;
                }
                changed.await;
            }
        };
        let reported = timeout(PATIENCE, wait).await;
        assert!(
            reported.is_ok(),
            "not reported; only: {:?}",
            self.all.lock()
        );
    }
}

/// Accepts until it is dropped.
pub(super) struct Server {
    pub(super) store: Arc<TlsStore>,
    pub(super) events: Arc<Events>,
    pub(super) address: SocketAddr,
    results: mpsc::UnboundedReceiver<Result<ConnectionTls, AcceptError>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(super) async fn start(options: TlsOptions) -> Self {
        Self::start_with(options, None).await
    }

    pub(super) async fn start_with(options: TlsOptions, acme: Option<Arc<Acme>>) -> Self {
        let events = Arc::new(Events::default());
        let store = match TlsStore::load(options, acme, events.clone()) {
            Ok(store) => Arc::new(store),
            Err(e) => panic!("{e}"),
        };
        Self::with(store, events).await
    }

    pub(super) async fn with(store: Arc<TlsStore>, events: Arc<Events>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::on(listener, store, events)
    }

    pub(super) fn on(listener: TcpListener, store: Arc<TlsStore>, events: Arc<Events>) -> Self {
        let address = listener.local_addr().unwrap();
        let (results_in, results) = mpsc::unbounded_channel();
        let accepting = store.clone();
        let task = tokio::spawn(async move {
            loop {
                let (io, _) = listener.accept().await.unwrap();
                let (store, results) = (accepting.clone(), results_in.clone());
                tokio::spawn(async move {
                    match store.accept(io).await {
                        Ok((mut stream, connection)) => {
                            let _ = results.send(Ok(connection));
                            // Says the same as the client, so that clients see the whole handshake done.
                            let mut buffer = [0; 64];
                            while let Ok(n @ 1..) = stream.read(&mut buffer).await {
                                if stream.write_all(&buffer[..n]).await.is_err() {
                                    break;
                                }
                            }
                            let _ = stream.shutdown().await;
                        }
                        Err(e) => {
                            let _ = results.send(Err(e));
                        }
                    }
                });
            }
        });
        Self {
            store,
            events,
            address,
            results,
            task,
        }
    }

    /// How the next handshake ended, in the server's view.
    pub(super) async fn next(&mut self) -> Result<ConnectionTls, AcceptError> {
        timeout(PATIENCE, self.results.recv())
            .await
            .unwrap()
            .unwrap()
    }

    /// A connection by `client` with that name, and what the server knows of it.
    pub(super) async fn connected(
        &mut self,
        client: &Client,
        name: &str,
    ) -> (ConnectionTls, ClientStream) {
        let stream = client.connect(self.address, name).await.unwrap();
        (self.next().await.unwrap(), stream)
    }

    /// A refused handshake: the server's reason and the client's error.
    pub(super) async fn refused(&mut self, client: &Client, name: &str) -> (AcceptError, String) {
        let reported = match client.connect(self.address, name).await {
            Ok(_) => panic!("{name} was accepted"),
            Err(e) => e.to_string(),
        };
        (self.next().await.unwrap_err(), reported)
    }
}

/// What a client keeps between connections.
#[derive(Clone)]
pub(super) struct Client(pub(super) Arc<ClientConfig>);

pub(super) type ClientStream = TlsStream<TcpStream>;

impl Client {
    pub(super) fn new(trusted: &Authority, own: Option<&Signed>) -> Self {
        Self::with(
            trusted,
            own,
            &[&rustls::version::TLS13, &rustls::version::TLS12],
        )
    }

    pub(super) fn with(
        trusted: &Authority,
        own: Option<&Signed>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(trusted.der.clone()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match own {
            Some(own) => builder
                .with_client_auth_cert(vec![own.der.clone()], own.private())
                .unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::in_memory_sessions(16);
        Self(Arc::new(config))
    }

    pub(super) fn changed(&self, change: impl FnOnce(&mut ClientConfig)) -> Self {
        let mut config = ClientConfig::clone(&self.0);
        change(&mut config);
        Self(Arc::new(config))
    }

    /// Connects and sends a byte both ways: a client of TLS 1.3 learns only then that it was refused.
    pub(super) async fn connect(
        &self,
        to: SocketAddr,
        name: &str,
    ) -> std::io::Result<ClientStream> {
        let tcp = TcpStream::connect(to).await?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let connect = async {
            let mut stream = TlsConnector::from(self.0.clone())
                .connect(name, tcp)
                .await?;
            stream.write_all(b"x").await?;
            let mut byte = [0];
            stream.read_exact(&mut byte).await?;
            Ok(stream)
        };
        timeout(PATIENCE, connect).await.unwrap()
    }
}

/// The names in the certificate that the server showed.
pub(super) fn shown(stream: &ClientStream) -> Vec<u8> {
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}
