//! `mongo`: a MongoDB server, for the guest's own driver.

use std::path::PathBuf;
use std::time::Duration;

use super::GrantSection;
use super::doors::DoorTls;
use super::limits::{self, CallLimits, call_limits};
use crate::keys::{FILE, Format, Key, Kind, VARIABLE, boolean, integer, list, text, time};
use crate::secret::SecretRef;
use crate::section::{Words, section};

call_limits! {
    "mongo_limits",
    rate: "100",
    concurrent: "64",
    queue: "64",
    timeout: "10s",
    max_request: "4mb",
    max_result: "17mb",
    handles: Some("10"),
}

/// A command of MongoDB.
const COMMAND: Format = Format {
    what: "the name of a command, as dropIndexes",
    pattern: Some(r"^[A-Za-z][A-Za-z0-9]*$"),
    expect: None,
};

section! {
    /// A MongoDB database. The guest's own driver speaks to it, without its password.
    pub struct MongoGrant "mongo" {
        /// The server, as `mongodb://USER:PASSWORD@HOST:PORT/DATABASE`, one host, with
        /// `?authSource=` where another database knows the user.
        pub url: Option<SecretRef> = SecretRef::key().required() => |grant| SecretRef::of(grant, "url"),
        /// Whether the server is reached by TLS. With it, the server proves its name.
        pub tls: Option<DoorTls> = Key::of(DoorTls::KIND)
            .derived("`required`, and `off` for a loopback address without `via`"),
        /// Files with certificates of authorities. Where there are some, they alone are
        /// trusted.
        pub ca: Vec<PathBuf> = list(&Kind::Text(FILE)),
        /// The tunnel that the server is reached through: a grant of the kind
        /// `wireguard_tunnel` of the same instance.
        pub via: Option<String> = text(VARIABLE).like(&["OFFICE"]),
        /// Connections to the server, used and idle. Each serves one command at a time.
        pub pool: usize = integer(1, 1000).default("5"),
        /// Time of one command, its `maxTimeMS`. The connection ends soon after.
        pub statement: Duration = time(1, 3_600_000).default("5s"),
        /// Time without a command, after which the connection of a guest ends.
        pub idle: Duration = time(1000, 86_400_000).default("10m"),
        /// Documents of one batch of a cursor, and of one command that writes.
        pub batch: u64 = integer(1, 1_000_000).default("10000"),
        /// Cursors that one mirror may have open.
        pub cursors: usize = integer(1, 100_000).default("100"),
        /// Commands that are refused, besides those that are refused by default.
        pub refuse: Vec<String> = list(&Kind::Text(COMMAND)).like(&["[drop, dropIndexes]"]),
        /// Commands that are allowed though they are refused by default. Logins, code and
        /// commands of servers among themselves cannot be.
        pub allow: Vec<String> = list(&Kind::Text(COMMAND)).like(&["[collMod]"]),
        /// Allows a user with roles of other databases or rights over users, and a server
        /// without logins.
        pub allow_superuser: bool = boolean().default("false"),
        /// Bounds of the connections of guests, each of which is a call. `timeout` is for
        /// having a connection to the server, `handles` are those that one mirror uses at a
        /// time, `max_request` is for one message, and `max_result` for one reply.
        pub limits: CallLimits = LIMITS_KEY => limits::read,
    }
}

impl GrantSection for MongoGrant {
    fn secrets(&mut self) -> Vec<&mut SecretRef> {
        self.url.iter_mut().collect()
    }

    fn via(&self) -> Option<&str> {
        self.via.as_deref()
    }
}
