//! `redis`: a Redis or Valkey server, for the guest's own driver.

use std::path::PathBuf;
use std::time::Duration;

use super::GrantSection;
use super::doors::DoorTls;
use super::limits::{self, CallLimits, call_limits};
use crate::keys::{FILE, Format, Key, Kind, boolean, integer, list, time};
use crate::secret::SecretRef;
use crate::section::{Words, section};

call_limits! {
    "redis_limits",
    rate: "100",
    concurrent: "64",
    queue: "64",
    timeout: "10s",
    max_request: "1mb",
    max_result: "16mb",
    handles: Some("5"),
}

/// A command of Redis.
const COMMAND: Format = Format {
    what: "the name of a command, as FLUSHDB",
    pattern: Some(r"^[A-Za-z][A-Za-z0-9_.]*$"),
    expect: None,
};

section! {
    /// A Redis or Valkey server. The guest's own driver speaks to it, without its password.
    pub struct RedisGrant "redis" {
        /// The server, as `redis://USER:PASSWORD@HOST:PORT/NUMBER`, or with `rediss:` for TLS.
        /// `NUMBER` is that of the database.
        pub url: Option<SecretRef> = SecretRef::key().required() => |grant| SecretRef::of(grant, "url"),
        /// Whether the server is reached by TLS. With it, the server proves its name.
        pub tls: Option<DoorTls> = Key::of(DoorTls::KIND)
            .derived("`required`, and `off` for a loopback address"),
        /// Files with certificates of authorities. Where there are some, they alone are
        /// trusted.
        pub ca: Vec<PathBuf> = list(&Kind::Text(FILE)),
        /// Connections to the server, used and idle.
        pub pool: usize = integer(1, 1000).default("5"),
        /// Time of one command that does not block. The connection ends then.
        pub statement: Duration = time(1, 3_600_000).default("5s"),
        /// Time without a command, after which the connection ends.
        pub idle: Duration = time(1000, 86_400_000).default("10m"),
        /// Commands that are refused, besides those that are refused by default.
        pub refuse: Vec<String> = list(&Kind::Text(COMMAND)).like(&["[FLUSHDB]"]),
        /// Commands that are allowed though they are refused by default.
        pub allow: Vec<String> = list(&Kind::Text(COMMAND)).like(&["[EVAL, EVALSHA]"]),
        /// Allows a user that may read the server's configuration and its list of users.
        pub allow_superuser: bool = boolean().default("false"),
        /// Bounds of the connections of guests, each of which is a call. `timeout` is for
        /// having a connection, `handles` are the connections of one mirror, `max_request`
        /// is for one command, and `max_result` for one reply.
        pub limits: CallLimits = LIMITS_KEY => limits::read,
    }
}

impl GrantSection for RedisGrant {
    fn secrets(&mut self) -> Vec<&mut SecretRef> {
        self.url.iter_mut().collect()
    }
}
