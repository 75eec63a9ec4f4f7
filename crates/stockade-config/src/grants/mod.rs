//! What an instance is granted through the kinds of `stockade-grants`: `grants: {NAME: {KIND: {…}}}`.
//!
//! A kind is a module here, whose section is its grant, and a line in the list below. The enum, the reader, the schema
//! and the reference come from the list.
//! Programs give the same sections as JSON (`program.rs`).

mod approve;
mod dns;
mod doors;
mod electrum;
mod files;
mod key;
mod lightning;
mod limits;
mod mongo;
mod mysql;
mod nostr;
mod pgp;
mod postgres;
mod redis;
mod sqlite;
mod wireguard;
mod wireguard_tunnel;

use std::collections::BTreeMap;

use crate::fields::Fields;
use crate::keys::{Key, Kind, Section};
use crate::reader::{Located, Reader};
use crate::secret::SecretRef;
use crate::section::Record;
use crate::tree::Message;

pub use approve::Approve;
pub use dns::{DnsGrant, DnsRecord};
pub use doors::{DoorSettings, DoorTls, SqlSettings};
pub use electrum::{BitcoinNetwork, ElectrumGrant, ElectrumServer};
pub use files::{FileMode, FilesGrant};
pub use key::{KeyAlgorithm, KeyEncoding, KeyGrant, KeyUsage};
pub use lightning::{FeeLimit, LightningGrant, LnbitsWallet, Msat, Spend};
pub use limits::CallLimits;
pub use mongo::MongoGrant;
pub use mysql::MysqlGrant;
pub use nostr::{NostrGrant, NostrPermission};
pub use pgp::{PgpGrant, PgpIsolation, PgpUsage};
pub use postgres::PostgresGrant;
pub use redis::RedisGrant;
pub use sqlite::{SqliteGrant, SqliteIsolation};
pub use wireguard::{WireguardGrant, WireguardKeys};
pub use wireguard_tunnel::WireguardTunnelGrant;

/// The key of a grant that is not a kind.
const APPROVE: &str = "approve";

/// What every kind's section has besides its keys.
pub(crate) trait GrantSection: Record {
    /// The secrets that the grant names, to be read with the file.
    fn secrets(&mut self) -> Vec<&mut SecretRef> {
        Vec::new()
    }

    /// The tunnel that its server is reached through, by the name of the tunnel's grant.
    fn via(&self) -> Option<&str> {
        None
    }
}

/// Declares the kinds of grants.
macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $Kind:ident($Grant:ty) $name:literal,)+) => {
        /// One grant, of one kind.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Grant {
            $($(#[doc = $doc])+ $Kind($Grant),)+
        }

        impl Grant {
            /// The name of its kind, which is its key in the file.
            #[must_use]
            pub fn kind(&self) -> &'static str {
                match self { $(Self::$Kind(_) => $name,)+ }
            }

            pub(crate) fn secrets(&mut self) -> Vec<&mut SecretRef> {
                match self { $(Self::$Kind(grant) => GrantSection::secrets(grant),)+ }
            }

            /// The tunnel that its server is reached through, by the name of the tunnel's grant.
            #[must_use]
            pub fn via(&self) -> Option<&str> {
                match self { $(Self::$Kind(grant) => GrantSection::via(grant),)+ }
            }

            fn of(name: &str, fields: &Fields<'_>) -> Option<Self> {
                match name {
                    $($name => Some(Self::$Kind(<$Grant as Record>::read(&fields.section($name)))),)+
                    _ => None,
                }
            }
        }

        /// A grant: exactly one kind, with its section.
        const GRANT: Section = Section {
            name: "grant",
            doc: "What an instance is granted under one name: exactly one kind, and who approves its calls.",
            keys: &[
                $(Key::of(<$Grant as Record>::KIND).named($name, concat!($($doc),+)),)+
                Key::of(Approve::KIND).named(APPROVE, "Another instance that approves each call."),
            ],
        };
    };
}

kinds! {
    /// Looks names up in the DNS.
    Dns(DnsGrant) "dns",
    /// A folder.
    Files(FilesGrant) "files",
    /// A database of SQLite.
    Sqlite(SqliteGrant) "sqlite",
    /// A key that the host holds, as a `CryptoKey`.
    Key(KeyGrant) "key",
    /// OpenPGP with keys that the host holds.
    Pgp(PgpGrant) "pgp",
    /// Signs Nostr events with the operator's key.
    Nostr(NostrGrant) "nostr",
    /// Reads a Bitcoin chain through Electrum servers.
    Electrum(ElectrumGrant) "electrum",
    /// Receives and spends through a Lightning wallet.
    Lightning(LightningGrant) "lightning",
    /// A PostgreSQL database.
    Postgres(PostgresGrant) "postgres",
    /// A MySQL or MariaDB database.
    Mysql(MysqlGrant) "mysql",
    /// A Redis or Valkey server.
    Redis(RedisGrant) "redis",
    /// A MongoDB database.
    Mongo(MongoGrant) "mongo",
    /// Peers of a WireGuard interface.
    Wireguard(WireguardGrant) "wireguard",
    /// A WireGuard tunnel for rules of `sockets` and `data_guard`.
    WireguardTunnel(WireguardTunnelGrant) "wireguard_tunnel",
}

/// The value of each name of `grants`.
pub(crate) const GRANT_KIND: Kind = Kind::Section(&GRANT);

/// Reads `grants` of an instance.
pub(crate) fn grants(fields: &Fields<'_>) -> BTreeMap<String, Grant> {
    let mut out = BTreeMap::new();
    for (name, found) in fields.entries("grants") {
        if let Some(grant) = grant(fields.reader(), &found) {
            out.insert(name.to_owned(), grant);
        }
    }
    out
}

/// Reads who approves the calls of each grant of an instance.
pub(crate) fn approvals(fields: &Fields<'_>) -> BTreeMap<String, Approve> {
    let mut out = BTreeMap::new();
    for (name, found) in fields.entries("grants") {
        // What is wrong with the grant was reported with it.
        let grant = found.node.map().is_some();
        let grant = grant.then(|| Fields::new(fields.reader(), &GRANT, &found));
        if let Some(Some(grant)) = grant
            && grant.has(APPROVE)
        {
            out.insert(name.to_owned(), Approve::read(&grant.section(APPROVE)));
        }
    }
    out
}

/// Refuses `approve` in the grants of a program, which has no instances that could be asked.
pub(crate) fn refuse_approvals(fields: &Fields<'_>) {
    for (_, found) in fields.entries("grants") {
        if found.node.map().is_some()
            && let Some(grant) = Fields::new(fields.reader(), &GRANT, &found)
            && grant.has(APPROVE)
        {
            let what = "there is no instance here that could be asked";
            let allowed = "a function as `approve` in a host script, Grants::approve in Rust";
            grant.refuse(APPROVE, Message::allowed(what, allowed));
        }
    }
}

fn grant(reader: Reader<'_>, found: &Located<'_>) -> Option<Grant> {
    let fields = Fields::new(reader, &GRANT, found)?;
    let all = || GRANT.keys.iter().filter(|key| key.name != APPROVE);
    let mut kinds = all().filter(|key| fields.has(key.name));
    let (kind, more) = (kinds.next(), kinds.next());
    match (kind, more) {
        (Some(kind), None) => Grant::of(kind.name, &fields),
        _ => {
            let what = match kind {
                Some(_) => "a grant is of one kind, and this one names several",
                None => "a grant names its kind, and this one names none",
            };
            let kinds: Vec<_> = all().map(|key| key.name).collect();
            let allowed = format!("a mapping with one of the keys {}", kinds.join(", "));
            reader.refuse(found, Message::allowed(what, allowed));
            None
        }
    }
}
