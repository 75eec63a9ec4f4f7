//! A server from its listeners to its end.

use std::convert::Infallible;
use std::future::Future;
use std::net::Ipv4Addr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use stockade_callers::{Authority, KeyRules};
use stockade_supervisor::End;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use crate::BoxError;
use crate::audit::{Auditor, RpcAudit};
use crate::client::Client;
use crate::connection;
use crate::guest::Guest;
use crate::lifecycle::{GuestState, keep};
use crate::limits::RpcLimits;
use crate::listen::{Address, ListenError, Listener, Stream};
use crate::methods::ServerContext;
use crate::origin::Hosts;

/// For replies that are ready to reach their callers.
const LAST_REPLIES: Duration = Duration::from_secs(1);

/// The answer to a connection beyond the limit.
const NO_PLACE: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 21\r\n\r\ntoo many connections\n";

/// How a server is made.
#[derive(Debug, Clone)]
pub struct RpcOptions {
    /// Where it listens.
    pub listen: Vec<Address>,
    /// What callers may use.
    pub limits: RpcLimits,
    /// Come to an end with the first isolate, in place of starting the next one.
    pub once: bool,
    /// Listen on addresses that other machines reach. Without `keys`, everyone who reaches the server may call the
    /// guest.
    pub allow_remote: bool,
    /// Let in only clients with an API key.
    pub keys: Option<KeyRules>,
    /// Where the start and the stop, refused clients and ends of isolates are recorded.
    pub audit: Option<RpcAudit>,
    /// Names under which the server may be called over TCP, and whose pages may call it, in addition to
    /// `localhost`.
    pub allowed_hosts: Vec<String>,
    /// How long calls may go on once the server is to come to its end.
    pub grace: Duration,
}

impl Default for RpcOptions {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            limits: RpcLimits::default(),
            once: false,
            allow_remote: false,
            keys: None,
            audit: None,
            allowed_hosts: Vec::new(),
            grace: Duration::from_secs(5),
        }
    }
}

/// Why a server came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stopped {
    /// It was asked to.
    Asked,
    /// With `once`: the isolate ended, and how.
    IsolateEnded(Option<End>),
}

/// A server that listens; connections wait until it runs.
pub struct Server {
    listeners: Vec<Listener>,
    addresses: Vec<Address>,
    options: RpcOptions,
}

impl Server {
    /// Listens.
    ///
    /// # Errors
    /// Names the address that is not available, and what to do about it.
    pub async fn bind(options: RpcOptions) -> Result<Self, ListenError> {
        let mut listeners = Vec::new();
        let mut addresses = Vec::new();
        for address in &options.listen {
            let listener = Listener::bind(address.clone(), options.allow_remote).await?;
            let bound = listener.address().map_err(|error| ListenError::Refused {
                address: address.clone(),
                error,
            })?;
            addresses.push(bound);
            listeners.push(listener);
        }
        Ok(Self {
            listeners,
            addresses,
            options,
        })
    }

    /// Where it listens, with the port that the system chose.
    #[must_use]
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// Starts the first isolate. `start` is called again for each one that takes the place of an ended
    /// one.
    ///
    /// # Errors
    /// When the first isolate does not start.
    pub async fn start<F, R>(self, start: F) -> Result<Running, BoxError>
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<Guest, BoxError>> + Send + 'static,
    {
        let guest = start().await?;
        let (state, current) = watch::channel(GuestState::Starting);
        let once = self.options.once;
        let audit = self.options.audit.map(|to| Arc::new(Auditor::new(to)));
        let names = self.options.allowed_hosts.iter();
        let shared = ServerContext {
            hosts: Hosts {
                names: names.map(|name| name.to_ascii_lowercase()).collect(),
                addresses: self.options.allow_remote,
            },
            state: current,
            calls: Arc::new(Semaphore::new(self.options.limits.concurrent)),
            limits: self.options.limits,
            authority: self.options.keys.map(|keys| {
                let on_refused = audit.clone().map(Auditor::on_refused);
                Arc::new(Authority::new(keys, "rpc", on_refused))
            }),
        };
        if let Some(audit) = &audit {
            audit.started();
        }
        Ok(Running {
            listeners: self.listeners,
            addresses: self.addresses,
            shared: Arc::new(shared),
            lifecycle: Box::pin(keep(start, guest, state, once, audit.clone())),
            audit,
            grace: self.options.grace,
        })
    }
}

/// A server with an isolate behind it.
pub struct Running {
    listeners: Vec<Listener>,
    addresses: Vec<Address>,
    shared: Arc<ServerContext>,
    lifecycle: Pin<Box<dyn Future<Output = Option<End>> + Send>>,
    audit: Option<Arc<Auditor>>,
    grace: Duration,
}

impl Running {
    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// Serves until `stop` is done, or with `once` until the isolate has ended. Calls that are in the
    /// guest may then go on for the time of grace; what is left of them is rejected. The isolate is
    /// ended in any case.
    pub async fn until(self, stop: impl Future<Output = ()>) -> Stopped {
        let Self {
            listeners,
            shared,
            mut lifecycle,
            audit,
            grace,
            ..
        } = self;
        let (stopping, stopped) = watch::channel(false);
        // Nothing is ever sent: it closes with the last connection.
        let (alive, mut all_gone) = mpsc::channel::<Infallible>(1);
        let places = Arc::new(Semaphore::new(shared.limits.connections));
        let mut accepting = JoinSet::new();
        for listener in listeners {
            let (shared, places) = (Arc::clone(&shared), Arc::clone(&places));
            let (stopped, alive) = (stopped.clone(), alive.clone());
            accepting.spawn(accept(listener, shared, places, stopped, alive));
        }
        drop(alive);
        let why = tokio::select! {
            end = &mut lifecycle => Stopped::IsolateEnded(end),
            () = stop => Stopped::Asked,
        };
        accepting.shutdown().await;
        stopping.send_replace(true);
        if why == Stopped::Asked {
            let mut over = pin!(tokio::time::sleep(grace));
            tokio::select! {
                _ = all_gone.recv() => {}
                _ = &mut lifecycle => {}
                () = &mut over => {}
            }
        }
        // Ends the isolate, which rejects the calls that are left.
        drop(lifecycle);
        let _ = tokio::time::timeout(LAST_REPLIES, all_gone.recv()).await;
        if let Some(audit) = audit {
            audit.stopped().await;
        }
        why
    }
}

async fn accept(
    listener: Listener,
    shared: Arc<ServerContext>,
    places: Arc<Semaphore>,
    stop: watch::Receiver<bool>,
    alive: mpsc::Sender<Infallible>,
) {
    loop {
        let stream = match listener.accept().await {
            Ok(stream) => stream,
            Err(error) => {
                // Such as no descriptor being left: others may go meanwhile.
                tracing::warn!("a connection was not accepted: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            refuse(&stream);
            continue;
        };
        let client = Client {
            shared: Arc::clone(&shared),
            local: matches!(stream, Stream::Unix(_)),
            address: match &stream {
                Stream::Tcp(stream) => stream.peer_addr().map(|peer| peer.ip()).ok(),
                Stream::Unix(_) => None,
            }
            .unwrap_or(Ipv4Addr::LOCALHOST.into()),
            stop: stop.clone(),
            _place: place,
            _alive: alive.clone(),
        };
        tokio::spawn(connection::serve(stream, client));
    }
}

/// Says so without waiting: a new socket has room for it.
fn refuse(stream: &Stream) {
    let written = match stream {
        Stream::Tcp(stream) => stream.try_write(NO_PLACE),
        Stream::Unix(stream) => stream.try_write(NO_PLACE),
    };
    if let Err(error) = written {
        tracing::debug!("a connection beyond the limit was closed: {error}");
    }
}
