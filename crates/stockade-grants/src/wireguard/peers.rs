//! `wireguard`: the peers of an interface, as far as the grant made them.
//!
//! | method | argument | answer |
//! |---|---|---|
//! | `peers` | `{}` | a list of `{publicKey, allowedIps, endpoint, latestHandshake, rx, tx}` |
//! | `addPeer` | `{publicKey?, presharedKey?, allowedIps?}` | `{publicKey, allowedIps}` |
//! | `removePeer` | `{publicKey}` | whether there was one |
//! | `newAddress` | `{}` | a free address, as a network |
//! | `clientConfig`, `clientQr` | `{publicKey}` | a file of `wg-quick`; the same as a QR code in SVG |
//!
//! Invariants:
//! 1. Only peers in the grant's record are listed, changed or removed. A peer of someone else with the same key is
//!    neither taken over nor touched.
//! 2. The record is durable before the interface is changed, so that each peer that the grant made can be removed by
//!    it after a crash.
//! 3. Networks of two peers never overlap, peers of others included. Changes of one interface happen one at a time in
//!    this process.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, LazyLock, Weak};
use std::time::Duration;

use futures_util::future::BoxFuture;
use ipnet::IpNet;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use stockade_capability::{CallContext, CallNotes, CallPayload, Capability, ErrorName, Reply};
use stockade_config::{CallLimits, WireguardGrant, WireguardKeys};
use stockade_protocol::GuestError;
use stockade_wireguard::Key;
use stockade_wireguard::uapi::{Interface, Uapi, UapiError};

use super::addresses::Space;
use super::client;
use super::record::{Made, Peers, Record};
use crate::{Finding, GrantError, GrantKind, Ground};

pub(crate) const METHODS: &[&str] = &[
    "peers",
    "addPeer",
    "removePeer",
    "newAddress",
    "clientConfig",
    "clientQr",
];
pub(crate) const EVERY_CALL: bool = true;

/// The program that asks the Linux kernel.
const PROGRAM: &str = "stockade-peers";

/// For one exchange with the interface.
const EXCHANGE: Duration = Duration::from_secs(5);
/// Bytes of JSON that are read for one call.
const MAX_ARGUMENTS: usize = 8 << 10;
/// Networks of one peer.
const MOST_NETWORKS: usize = 16;

/// The lock of each interface that a grant has.
static LOCKS: LazyLock<Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>> =
    LazyLock::new(Mutex::default);

fn lock_of(interface: &str) -> Arc<tokio::sync::Mutex<()>> {
    let mut locks = LOCKS.lock();
    locks.retain(|_, lock| lock.strong_count() > 0);
    if let Some(lock) = locks.get(interface).and_then(Weak::upgrade) {
        return lock;
    }
    let lock = Arc::default();
    locks.insert(interface.to_owned(), Arc::downgrade(&lock));
    lock
}

impl GrantKind for WireguardGrant {
    fn limits(&self) -> &CallLimits {
        &self.limits
    }

    fn open(&self, ground: &Ground) -> Result<Arc<dyn Capability>, GrantError> {
        let Some(data) = &ground.data else {
            let what =
                "peers of an interface need a folder for their record, and this host has none";
            return Err(GrantError::Invalid(what.to_owned()));
        };
        Ok(Arc::new(Wireguard(Arc::new(Managed {
            uapi: uapi(self)?,
            record: Record::new(data, &self.interface),
            lock: lock_of(&self.interface),
            grant: self.clone(),
        }))))
    }

    fn check<'a>(&'a self, _ground: &'a Ground) -> BoxFuture<'a, Vec<Finding>> {
        Box::pin(async move {
            let asked = match uapi(self) {
                Ok(uapi) => uapi.interface().await.map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            let what = match asked {
                Ok(Interface {
                    public_key: Some(_),
                    ..
                }) => return Vec::new(),
                Ok(_) => "it has no private key".to_owned(),
                Err(why) => why,
            };
            vec![Finding {
                is_error: true,
                what: format!("the interface {} cannot be used: {what}", self.interface),
            }]
        })
    }
}

fn uapi(grant: &WireguardGrant) -> Result<Uapi, GrantError> {
    let uapi = Uapi::new(&grant.interface, EXCHANGE);
    let uapi = uapi.map_err(|error| GrantError::Invalid(format!("interface: {error}")))?;
    // Without it, interfaces of other programs can be managed.
    Ok(uapi.or_by(crate::installed::program(PROGRAM).ok()))
}

struct Wireguard(Arc<Managed>);

struct Managed {
    grant: WireguardGrant,
    uapi: Uapi,
    record: Record,
    lock: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Named {
    public_key: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wanted {
    public_key: Option<String>,
    preshared_key: Option<String>,
    allowed_ips: Option<Vec<String>>,
}

/// What is wanted of a peer, read.
struct Checked {
    public: Option<Key>,
    preshared: Option<Key>,
    allowed_ips: Option<Vec<IpNet>>,
}

impl Checked {
    fn read(arguments: CallPayload) -> Result<Self, GuestError> {
        let (wanted, attachments) = arguments.read::<Wanted>(MAX_ARGUMENTS)?;
        let read = |what, text: &Option<String>| {
            let text = text.as_deref().map(|text| attachments.text(text));
            text.transpose()?.map(|text| key(what, text)).transpose()
        };
        let allowed_ips = wanted.allowed_ips.map(|texts| {
            if texts.is_empty() || texts.len() > MOST_NETWORKS {
                let what = format!("allowedIps has 1 to {MOST_NETWORKS} networks");
                return Err(ErrorName::Range.error(what));
            }
            let nets = texts.iter().map(|text| network(attachments.text(text)?));
            nets.collect::<Result<Vec<_>, _>>()
        });
        Ok(Self {
            public: read("publicKey", &wanted.public_key)?,
            preshared: read("presharedKey", &wanted.preshared_key)?,
            allowed_ips: allowed_ips.transpose()?,
        })
    }
}

/// The key of the peer that a call is about.
fn named(arguments: CallPayload) -> Result<Key, GuestError> {
    let (named, attachments) = arguments.read::<Named>(MAX_ARGUMENTS)?;
    key("publicKey", attachments.text(&named.public_key)?)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    public_key: String,
    allowed_ips: Vec<String>,
    /// `null` before the first message.
    endpoint: Option<String>,
    /// Milliseconds since 1970-01-01 UTC; `null` before the first handshake.
    latest_handshake: Option<u64>,
    rx: u64,
    tx: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Added<'a> {
    public_key: &'a str,
    allowed_ips: Vec<String>,
}

impl Capability for Wireguard {
    fn call(
        &self,
        context: CallContext,
        method: &str,
        arguments: CallPayload,
    ) -> BoxFuture<'static, Result<CallPayload, GuestError>> {
        let (managed, method) = (Arc::clone(&self.0), method.to_owned());
        // A change that has begun is completed, also when its guest ends.
        let called =
            tokio::spawn(async move { managed.call(&context.notes, &method, arguments).await });
        Box::pin(async move {
            let failed = |_| ErrorName::Own("OperationError").error("the call was not completed");
            called.await.map_err(failed)?
        })
    }
}

impl Managed {
    async fn call(
        &self,
        notes: &CallNotes,
        method: &str,
        arguments: CallPayload,
    ) -> Result<CallPayload, GuestError> {
        let _alone = self.lock.lock().await;
        let interface = self
            .uapi
            .interface()
            .await
            .map_err(|error| failed(&error))?;
        let mut made = self.recorded(Record::read)?;
        self.restore(&interface, &made).await?;
        match method {
            "peers" => {
                arguments.read::<Nothing>(MAX_ARGUMENTS)?;
                Reply::plain(&list(&interface, &made))
            }
            "newAddress" => {
                arguments.read::<Nothing>(MAX_ARGUMENTS)?;
                let free = self.space().free(&taken(&interface, &made, ""));
                Reply::plain(&free.ok_or_else(full)?.to_string())
            }
            "addPeer" => {
                let wanted = Checked::read(arguments)?;
                self.add(notes, &interface, &mut made, wanted).await
            }
            _ => {
                let key = named(arguments)?;
                let name = key.reveal();
                notes.add("peer", name.as_str());
                match method {
                    "removePeer" => self.remove(&mut made, &key).await,
                    "clientConfig" => Reply::plain(&self.client(&interface, &made, &name)?),
                    _ => {
                        let file = self.client(&interface, &made, &name)?;
                        let code = client::qr(&file).ok_or_else(|| {
                            ErrorName::Range.error("the client's file is too long for a QR code")
                        })?;
                        Reply::plain(&code)
                    }
                }
            }
        }
    }

    fn space(&self) -> Space<'_> {
        Space {
            nets: &self.grant.allowed_ips,
            reserved: &self.grant.reserved,
        }
    }

    /// Reads or writes the record. What is wrong with it is for the log alone.
    fn recorded<T>(&self, act: impl FnOnce(&Record) -> io::Result<T>) -> Result<T, GuestError> {
        act(&self.record).map_err(|error| {
            let interface = self.grant.interface.as_str();
            tracing::error!(%error, interface, "the record of WireGuard peers cannot be used");
            ErrorName::Own("OperationError").error("the record of the grant's peers cannot be used")
        })
    }

    /// Sets peers of the record that the interface has lost, as after a restart of its program.
    async fn restore(&self, interface: &Interface, made: &Peers) -> Result<(), GuestError> {
        let is_there = |name: &str| {
            interface
                .peers
                .iter()
                .any(|peer| peer.public_key.reveal() == name)
        };
        for (name, peer) in made.iter().filter(|(name, _)| !is_there(name)) {
            let preshared = peer.preshared_key.as_deref().map(Key::parse).transpose();
            let (Ok(key), Ok(preshared)) = (Key::parse(name), preshared) else {
                continue;
            };
            let set = self
                .uapi
                .set(&key, preshared.as_ref(), &peer.allowed_ips)
                .await;
            set.map_err(|error| failed(&error))?;
        }
        Ok(())
    }

    async fn add(
        &self,
        notes: &CallNotes,
        interface: &Interface,
        made: &mut Peers,
        wanted: Checked,
    ) -> Result<CallPayload, GuestError> {
        // The keys.
        let (public, private) = match (wanted.public, self.grant.keys) {
            (Some(public), WireguardKeys::Guest) => (public, None),
            (None, WireguardKeys::Host) => {
                let private = Key::random().map_err(|_| {
                    ErrorName::Own("OperationError").error("the system gives no random bytes")
                })?;
                (private.public(), Some(private))
            }
            (None, WireguardKeys::Guest) => {
                return Err(ErrorName::Type.error("publicKey is needed: the grant makes no keys"));
            }
            (Some(_), WireguardKeys::Host) => {
                return Err(
                    ErrorName::Type.error("publicKey must not be given: the grant makes the keys")
                );
            }
        };
        let name = public.reveal();
        notes.add("peer", name.as_str());
        if !made.contains_key(&name)
            && (interface.public_key.as_ref() == Some(&public)
                || interface.peers.iter().any(|peer| peer.public_key == public))
        {
            notes.refused("peer");
            return Err(
                ErrorName::Type.error("this key is in use, and not by a peer that the grant made")
            );
        }
        if !made.contains_key(&name) && made.len() >= self.grant.peers {
            notes.refused("peers");
            let limit = self.grant.peers;
            return Err(ErrorName::Quota.error(format!("the grant allows {limit} peers")));
        }
        // The networks.
        let mut taken = taken(interface, made, &name);
        let allowed_ips = match wanted.allowed_ips {
            None => match made.get(&name) {
                Some(known) => known.allowed_ips.clone(),
                None => vec![self.space().free(&taken).ok_or_else(full)?],
            },
            Some(nets) => {
                for net in &nets {
                    self.space().check(net, &taken).map_err(|unfit| {
                        notes.refused("allowed_ips");
                        ErrorName::Type.error(format!("{net}: {unfit}"))
                    })?;
                    taken.push(*net);
                }
                nets
            }
        };
        // The record, and then the interface.
        let peer = Made {
            allowed_ips: allowed_ips.clone(),
            preshared_key: wanted.preshared.as_ref().map(Key::reveal),
            private_key: private.as_ref().map(Key::reveal),
        };
        let before = made.insert(name.clone(), peer);
        self.recorded(|record| record.write(made))?;
        // A key of zeros removes one that was there.
        let preshared = wanted.preshared.unwrap_or_else(|| Key::from_bytes([0; 32]));
        if let Err(error) = self.uapi.set(&public, Some(&preshared), &allowed_ips).await {
            match before {
                Some(before) => made.insert(name, before),
                None => made.remove(&name),
            };
            self.recorded(|record| record.write(made))?;
            return Err(failed(&error));
        }
        Reply::plain(&Added {
            public_key: &name,
            allowed_ips: texts(&allowed_ips),
        })
    }

    async fn remove(&self, made: &mut Peers, key: &Key) -> Result<CallPayload, GuestError> {
        if !made.contains_key(&key.reveal()) {
            return Reply::plain(&false);
        }
        // The interface first: what is in no record could not be removed any more.
        self.uapi
            .remove(key)
            .await
            .map_err(|error| failed(&error))?;
        made.remove(&key.reveal());
        self.recorded(|record| record.write(made))?;
        Reply::plain(&true)
    }

    fn client(
        &self,
        interface: &Interface,
        made: &Peers,
        name: &str,
    ) -> Result<String, GuestError> {
        let peer = made.get(name);
        let peer =
            peer.ok_or_else(|| ErrorName::Own("NotFound").error("the grant made no such peer"))?;
        let (Some(server), Some(endpoint)) = (&interface.public_key, &self.grant.endpoint) else {
            let what = "a client's file needs the grant's `endpoint`, and an interface with a key";
            return Err(ErrorName::Own("NotSupportedError").error(what));
        };
        Ok(client::file(&self.grant, peer, server, endpoint))
    }
}

fn list(interface: &Interface, made: &Peers) -> Vec<Listed> {
    let listed = |(name, peer): (&String, &Made)| {
        let mut on = interface.peers.iter();
        let on = on.find(|one| one.public_key.reveal() == *name);
        let handshake = on.and_then(|one| one.last_handshake);
        Listed {
            public_key: name.clone(),
            allowed_ips: texts(&peer.allowed_ips),
            endpoint: on.and_then(|one| one.endpoint).map(|at| at.to_string()),
            latest_handshake: handshake.and_then(|at| u64::try_from(at.as_millis()).ok()),
            rx: on.map_or(0, |one| one.received),
            tx: on.map_or(0, |one| one.sent),
        }
    };
    made.iter().map(listed).collect()
}

fn texts(nets: &[IpNet]) -> Vec<String> {
    nets.iter().map(ToString::to_string).collect()
}

/// The networks of all peers but one, on the interface and in the record.
fn taken(interface: &Interface, made: &Peers, except: &str) -> Vec<IpNet> {
    let others = interface.peers.iter();
    let others = others.filter(|peer| peer.public_key.reveal() != except);
    let recorded = made.iter().filter(|(name, _)| *name != except);
    let recorded = recorded.flat_map(|(_, peer)| &peer.allowed_ips);
    others
        .flat_map(|peer| &peer.allowed_ips)
        .chain(recorded)
        .copied()
        .collect()
}

fn key(what: &str, text: &str) -> Result<Key, GuestError> {
    Key::parse(text).map_err(|error| ErrorName::Type.error(format!("{what}: {error}")))
}

fn network(text: &str) -> Result<IpNet, GuestError> {
    let address = || text.parse::<std::net::IpAddr>().ok().map(IpNet::from);
    let net: Option<IpNet> = text.parse().ok().or_else(address);
    let what = "allowedIps has something that is not an address or a network";
    net.map(|net| net.trunc())
        .ok_or_else(|| ErrorName::Type.error(what))
}

fn full() -> GuestError {
    ErrorName::Quota.error("allowed_ips of the grant has no free address")
}

fn failed(error: &UapiError) -> GuestError {
    let name = match error {
        UapiError::TimedOut => ErrorName::Timeout,
        _ => ErrorName::Own("OperationError"),
    };
    name.error(error.to_string())
}
