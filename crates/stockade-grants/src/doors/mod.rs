//! `postgres`, `mysql`, `redis` and `mongo`: servers to which the guest's own driver speaks.
//!
//! | method | gives |
//! |---|---|
//! | `connect` | a connection, on which the server's protocol is spoken without its password |
//!
//! Each connection is a session of a door of `stockade-door`, which logs in and enforces the limits. What the
//! kinds do alike is here; their servers are in `postgres.rs`, `mysql.rs`, `redis.rs` and `mongo.rs`, the addresses of
//! the first three in `address.rs`, and the statements of guests without a driver in `sql.rs`.

mod address;
pub(crate) mod mongo;
pub(crate) mod mysql;
pub(crate) mod postgres;
pub(crate) mod redis;
mod sql;

#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use stockade_broker::{Network, TlsClientOptions, Via};
use stockade_capability::{CallContext, CallPayload, CallPlace, Capability, Owner, Pipe};
use stockade_config::{CallLimits, DoorSettings, DoorTls, SecretRef};
use stockade_door::{Dial, Limits, OwnerId, PoolLimits, Server, ServerError, ServerStream, Tls};
use stockade_protocol::GuestError;
use tokio::io::DuplexStream;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::Instrument;

use address::{Address, Scheme};

use crate::{Finding, GrantError, GrantKind, Ground};

/// Bytes that wait in each direction between a guest and its session.
const BUFFER: usize = 64 << 10;

/// How long a check waits for the server.
const CHECK: Duration = Duration::from_secs(10);

/// A door of any protocol.
trait Door: Send + Sync + 'static {
    /// Serves one connection of a guest until it ends.
    fn serve(self: Arc<Self>, owner: OwnerId, guest: DuplexStream) -> BoxFuture<'static, ()>;

    /// Logs in once.
    fn check(&self) -> BoxFuture<'_, Result<(), ServerError>>;

    /// Ends all sessions of an owner.
    fn ended(&self, owner: OwnerId);
}

macro_rules! doors {
    ($($Door:ty),+) => {$(
        impl Door for $Door {
            fn serve(self: Arc<Self>, owner: OwnerId, guest: DuplexStream) -> BoxFuture<'static, ()> {
                Box::pin(async move { <$Door>::serve(&self, owner, guest).await })
            }

            fn check(&self) -> BoxFuture<'_, Result<(), ServerError>> {
                Box::pin(<$Door>::check(self))
            }

            fn ended(&self, owner: OwnerId) {
                <$Door>::ended(self, owner);
            }
        }
    )+};
}

doors!(
    stockade_door::postgres::Door,
    stockade_door::mysql::Door,
    stockade_door::redis::Door,
    stockade_door::mongo::Door
);

/// What each kind of doors implements for its section of the configuration.
trait DoorGrant: Sync {
    type Door: Door;

    /// What its URLs look like.
    const SCHEME: &Scheme;

    /// What its section has in common with the others.
    fn settings(&self) -> DoorSettings<'_>;

    /// The door. Nothing is connected.
    fn door(&self, server: Server, limits: Limits, pool: PoolLimits, ground: &Ground)
    -> Self::Door;

    /// What guests reach the door by, whose sessions have these limits.
    fn capability(
        &self,
        doors: Doors<Self::Door>,
        limits: Limits,
        ground: &Ground,
    ) -> Arc<dyn Capability>;
}

impl<G: DoorGrant> GrantKind for G {
    fn limits(&self) -> &CallLimits {
        self.settings().limits
    }

    fn open(&self, ground: &Ground) -> Result<Arc<dyn Capability>, GrantError> {
        let doors = Doors::new(door(self, ground)?, ground);
        Ok(self.capability(doors, limits(&self.settings()), ground))
    }

    /// What the guest's script makes a connection string of.
    fn describe(&self) -> Result<Value, GrantError> {
        let address = address(G::SCHEME, &self.settings())?;
        Ok(json!({ "database": address.login.database }))
    }

    fn check<'a>(&'a self, ground: &'a Ground) -> BoxFuture<'a, Vec<Finding>> {
        Box::pin(async move { check(door(self, ground)).await })
    }
}

fn door<G: DoorGrant>(grant: &G, ground: &Ground) -> Result<G::Door, GrantError> {
    let settings = grant.settings();
    let server = server(G::SCHEME, &settings, ground)?;
    let pool = pool(settings.pool, settings.limits);
    Ok(grant.door(server, limits(&settings), pool, ground))
}

/// The limits of a session.
fn limits(settings: &DoorSettings<'_>) -> Limits {
    let mut limits = Limits {
        statement: settings.statement,
        idle: settings.idle,
        max_result: settings.limits.max_result,
        max_request: settings.limits.max_request,
        ..Limits::default()
    };
    if let Some(sql) = settings.sql {
        limits.transaction = sql.transaction;
        limits.idle_in_transaction = sql.idle_in_transaction;
        limits.rows = sql.rows;
    }
    limits
}

fn address(scheme: &Scheme, settings: &DoorSettings<'_>) -> Result<Address, GrantError> {
    let url = settings.url.as_ref().map_or("", SecretRef::reveal);
    Address::parse(scheme, url)
}

/// The server of a grant.
fn server(
    scheme: &Scheme,
    settings: &DoorSettings<'_>,
    ground: &Ground,
) -> Result<Server, GrantError> {
    let address = address(scheme, settings)?;
    let way = Way::new(settings.via, ground)?;
    let tls = tls(
        settings.tls,
        settings.ca,
        (&address.host, &way),
        address.asks_for_tls,
        ground,
    )?;
    Ok(Server {
        dial: Arc::new(Dialer {
            way,
            host: address.host.into(),
            port: address.port,
            timeout: settings.limits.timeout,
        }),
        tls,
        login: address.login,
        allow_superuser: settings.allow_superuser,
    })
}

/// How a server is reached by TLS, if it is: as the grant says, or else its URL, or else unless it is on this machine.
fn tls(
    chosen: Option<DoorTls>,
    ca: &[PathBuf],
    (host, way): (&str, &Way),
    url_asks: bool,
    ground: &Ground,
) -> Result<Option<Tls>, GrantError> {
    let invalid = |why: &str| Err(GrantError::Invalid(why.to_owned()));
    let has_tls = match (chosen, url_asks) {
        (Some(DoorTls::Required), _) | (None, true) => true,
        (Some(DoorTls::Off), false) => false,
        (Some(DoorTls::Off), true) => {
            return invalid("the URL asks for TLS, and tls is off: leave one of them out");
        }
        (None, false) => matches!(way, Way::Tunnel(_)) || !is_loopback(host),
    };
    if !has_tls {
        return if ca.is_empty() {
            Ok(None)
        } else {
            invalid(
                "ca names authorities for TLS, and the server is reached without: set tls: required",
            )
        };
    }
    let options = TlsClientOptions {
        ca: ca.to_vec(),
        ..TlsClientOptions::default()
    };
    let config = ground.network.tls(&options)?.config();
    let tls = Tls::new(config, host);
    tls.map(Some)
        .map_err(|error| GrantError::Invalid(error.to_string()))
}

/// Whether a server is on this machine.
fn is_loopback(host: &str) -> bool {
    let address = host.parse::<std::net::IpAddr>();
    host.eq_ignore_ascii_case("localhost")
        || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

/// The pool of a grant.
fn pool(connections: usize, limits: &CallLimits) -> PoolLimits {
    let defaults = PoolLimits::default();
    PoolLimits {
        connections,
        per_owner: limits.handles,
        waiting: limits.queue,
        connect: limits.timeout,
        // All of them may be made at once.
        attempts: defaults
            .attempts
            .max(u32::try_from(connections).unwrap_or(u32::MAX)),
        ..defaults
    }
}

/// How the server is reached, which the operator named.
enum Way {
    Network(Network),
    Tunnel(Arc<Via>),
}

impl Way {
    /// Through the tunnel of this name, or without one.
    fn new(via: Option<&str>, ground: &Ground) -> Result<Self, GrantError> {
        let Some(name) = via else {
            return Ok(Self::Network(ground.network.clone()));
        };
        let tunnel = ground.ways.get(name).cloned();
        tunnel.map(Self::Tunnel).ok_or_else(|| {
            GrantError::Invalid(format!(
                "via: {name} is not granted here; it must be a grant of the kind wireguard_tunnel"
            ))
        })
    }
}

/// Connects to the server.
struct Dialer {
    way: Way,
    host: Arc<str>,
    port: u16,
    timeout: Duration,
}

impl Dial for Dialer {
    fn dial(&self) -> BoxFuture<'static, io::Result<ServerStream>> {
        let (host, port) = (Arc::clone(&self.host), self.port);
        let deadline = Instant::now() + self.timeout;
        match &self.way {
            Way::Network(network) => {
                let network = network.clone();
                Box::pin(async move {
                    let dialled = network.dial(&host, port, None, deadline).await;
                    Ok(Box::new(dialled.map_err(io::Error::other)?) as ServerStream)
                })
            }
            Way::Tunnel(via) => {
                let via = Arc::clone(via);
                Box::pin(async move {
                    let dialled = via.dial(&host, port, deadline).await;
                    Ok(Box::new(dialled.map_err(io::Error::other)?) as ServerStream)
                })
            }
        }
    }
}

/// `env.NAME` of one of the kinds.
struct Doors<D> {
    door: Arc<D>,
    instance: Arc<str>,
    binding: Arc<str>,
}

impl<D> Clone for Doors<D> {
    fn clone(&self) -> Self {
        Self {
            door: Arc::clone(&self.door),
            instance: Arc::clone(&self.instance),
            binding: Arc::clone(&self.binding),
        }
    }
}

impl<D: Door> Doors<D> {
    fn new(door: D, ground: &Ground) -> Self {
        Self {
            door: Arc::new(door),
            instance: Arc::clone(&ground.instance),
            binding: Arc::clone(&ground.binding),
        }
    }

    /// A connection of a guest, and its session, which ends when the guest's end is dropped. It may have to clean up on
    /// the server then, and has the place of its call until that is done.
    fn connect(&self, owner: &Owner, place: Option<CallPlace>) -> (DuplexStream, JoinHandle<()>) {
        let (guest, ours) = tokio::io::duplex(BUFFER);
        let (instance, binding) = (&self.instance, &self.binding);
        let span = tracing::warn_span!("door", %instance, %binding);
        let (door, owner) = (Arc::clone(&self.door), number(owner));
        let session = async move {
            let _place = place;
            door.serve(owner, ours).await;
        };
        (guest, tokio::spawn(session.instrument(span)))
    }
}

impl<D: Door> Capability for Doors<D> {
    fn open(
        &self,
        context: CallContext,
        _method: &str,
        _arguments: CallPayload,
    ) -> BoxFuture<'static, Result<Pipe, GuestError>> {
        // The mirror owns the guest's end.
        let (guest, _) = self.connect(&context.owner, Some(context.place));
        Box::pin(async move { Ok(Pipe::new(guest)) })
    }

    fn ended(&self, owner: &Owner) {
        self.door.ended(number(owner));
    }
}

/// The number of an owner among those of one instance. Starts are counted from 1 in one process.
fn number(owner: &Owner) -> OwnerId {
    owner.start << 32 | OwnerId::from(owner.mirror)
}

/// Logs in once, and says what is wrong.
async fn check(door: Result<impl Door, GrantError>) -> Vec<Finding> {
    let wrong = |what: String| {
        vec![Finding {
            is_error: true,
            what,
        }]
    };
    let door = match door {
        Ok(door) => door,
        Err(error) => return wrong(error.to_string()),
    };
    match tokio::time::timeout(CHECK, door.check()).await {
        Ok(Ok(())) => Vec::new(),
        Ok(Err(error)) => wrong(error.to_string()),
        Err(_) => wrong(format!("the server did not answer within {CHECK:?}")),
    }
}
