//! `postgres`, `mysql` and `redis`: servers to which the guest's own driver speaks.
//!
//! | method | gives |
//! |---|---|
//! | `connect` | a connection, on which the server's protocol is spoken without its password |
//!
//! Each connection is a session of a door of `stockade-door`, which logs in and enforces the limits. What the three
//! kinds do alike is here; their servers are in `postgres.rs`, `mysql.rs` and `redis.rs`, and their addresses in
//! `address.rs`.

mod address;
pub(crate) mod mysql;
pub(crate) mod postgres;
pub(crate) mod redis;

#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use stockade_broker::{Network, TlsClientOptions};
use stockade_capability::{CallContext, CallPayload, Capability, Owner, Pipe};
use stockade_config::{CallLimits, DoorTls, SecretRef};
use stockade_door::{Dial, Login, OwnerId, PoolLimits, ServerError, ServerStream, Tls};
use stockade_protocol::GuestError;
use tokio::io::DuplexStream;
use tokio::time::Instant;
use tracing::Instrument;

use address::{Address, Scheme};

use crate::{Finding, GrantError, Ground};

/// The methods of each kind.
pub(crate) const METHODS: &[&str] = &["connect"];

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
    stockade_door::redis::Door
);

/// What the three sections have in common.
struct Settings<'a> {
    scheme: &'static Scheme,
    url: &'a Option<SecretRef>,
    tls: Option<DoorTls>,
    ca: &'a [PathBuf],
}

/// The way to the server of a grant.
struct Way {
    dial: Arc<dyn Dial>,
    tls: Option<Tls>,
    login: Login,
}

impl Settings<'_> {
    fn address(&self) -> Result<Address, GrantError> {
        let url = self.url.as_ref().map_or("", SecretRef::reveal);
        Address::parse(self.scheme, url)
    }

    /// What the guest's script makes a connection string of.
    fn describe(&self) -> Result<Value, GrantError> {
        Ok(json!({ "database": self.address()?.login.database }))
    }

    fn way(&self, ground: &Ground, timeout: Duration) -> Result<Way, GrantError> {
        let address = self.address()?;
        let has_tls = match (self.tls, address.asks_for_tls) {
            (Some(DoorTls::Required), _) | (None, true) => true,
            (Some(DoorTls::Off), false) => false,
            (Some(DoorTls::Off), true) => {
                let why = "the URL asks for TLS, and tls is off: leave one of them out";
                return Err(GrantError::Invalid(why.to_owned()));
            }
            (None, false) => !address.is_loopback(),
        };
        let tls = if has_tls {
            let options = TlsClientOptions {
                ca: self.ca.to_vec(),
                ..TlsClientOptions::default()
            };
            let config = ground.network.tls(&options)?.config();
            let tls = Tls::new(config, &address.host);
            Some(tls.map_err(|error| GrantError::Invalid(error.to_string()))?)
        } else if self.ca.is_empty() {
            None
        } else {
            let why = "ca names authorities for TLS, and the server is reached without: set tls: required";
            return Err(GrantError::Invalid(why.to_owned()));
        };
        Ok(Way {
            dial: Arc::new(Dialer {
                network: ground.network.clone(),
                host: address.host.into(),
                port: address.port,
                timeout,
            }),
            tls,
            login: address.login,
        })
    }
}

/// The pool of a grant.
fn pool(connections: usize, limits: &CallLimits) -> PoolLimits {
    PoolLimits {
        connections,
        per_owner: limits.handles,
        waiting: limits.queue,
        connect: limits.timeout,
        ..PoolLimits::default()
    }
}

/// Connects to the server, which the operator named.
struct Dialer {
    network: Network,
    host: Arc<str>,
    port: u16,
    timeout: Duration,
}

impl Dial for Dialer {
    fn dial(&self) -> BoxFuture<'static, io::Result<ServerStream>> {
        let (network, host, port) = (self.network.clone(), Arc::clone(&self.host), self.port);
        let deadline = Instant::now() + self.timeout;
        Box::pin(async move {
            let dialled = network.dial(&host, port, None, deadline).await;
            let stream = dialled.map_err(io::Error::other)?;
            Ok(Box::new(stream) as ServerStream)
        })
    }
}

/// `env.NAME` of one of the kinds.
struct Doors<D> {
    door: Arc<D>,
    instance: Arc<str>,
    binding: Arc<str>,
}

impl<D: Door> Doors<D> {
    fn open(door: D, ground: &Ground) -> Arc<dyn Capability> {
        Arc::new(Self {
            door: Arc::new(door),
            instance: Arc::clone(&ground.instance),
            binding: Arc::clone(&ground.binding),
        })
    }
}

impl<D: Door> Capability for Doors<D> {
    fn open(
        &self,
        context: CallContext,
        _method: &str,
        _arguments: CallPayload,
    ) -> BoxFuture<'static, Result<Pipe, GuestError>> {
        let (door, owner) = (Arc::clone(&self.door), number(&context.owner));
        let (instance, binding) = (&self.instance, &self.binding);
        let span = tracing::warn_span!("door", %instance, %binding);
        Box::pin(async move {
            let (guest, ours) = tokio::io::duplex(BUFFER);
            // The session ends when the guest's end is dropped, which the mirror owns. It may have to clean up on the
            // server then, and has its place until that is done.
            let session = async move {
                let _place = context.place;
                door.serve(owner, ours).await;
            };
            tokio::spawn(session.instrument(span));
            Ok(Pipe::new(guest))
        })
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
