//! `mysql`: a MySQL or MariaDB server, for the guest's own driver.

use std::path::PathBuf;
use std::time::Duration;

use super::GrantSection;
use super::doors::DoorTls;
use super::limits::{self, CallLimits, call_limits};
use crate::keys::{FILE, Key, Kind, boolean, integer, list, time};
use crate::secret::SecretRef;
use crate::section::{Words, section};

call_limits! {
    "mysql_limits",
    rate: "100",
    concurrent: "64",
    queue: "64",
    timeout: "10s",
    max_request: "1mb",
    max_result: "16mb",
    handles: Some("5"),
}

section! {
    /// A MySQL or MariaDB database. The guest's own driver speaks to it, without its password.
    pub struct MysqlGrant "mysql" {
        /// The server, as `mysql://USER:PASSWORD@HOST:PORT/DATABASE`.
        pub url: Option<SecretRef> = SecretRef::key().required() => |grant| SecretRef::of(grant, "url"),
        /// Whether the server is reached by TLS. With it, the server proves its name.
        pub tls: Option<DoorTls> = Key::of(DoorTls::KIND)
            .derived("`required`, and `off` for a loopback address"),
        /// Files with certificates of authorities. Where there are some, they alone are
        /// trusted.
        pub ca: Vec<PathBuf> = list(&Kind::Text(FILE)),
        /// Connections to the server, used and idle.
        pub pool: usize = integer(1, 1000).default("5"),
        /// Time of one statement. The server cancels one that takes longer.
        pub statement: Duration = time(1, 3_600_000).default("5s"),
        /// Time of a transaction. A longer one is rolled back, and its connection ends.
        pub transaction: Duration = time(1, 3_600_000).default("10s"),
        /// Time without a statement in a transaction, after which the connection ends.
        pub idle_in_transaction: Duration = time(1, 3_600_000).default("2s"),
        /// Time without a statement, after which the connection ends.
        pub idle: Duration = time(1000, 86_400_000).default("10m"),
        /// Rows of one result.
        pub rows: u64 = integer(1, 1 << 40).default("10000"),
        /// Allows a user that may use the server's files, end the work of others or make
        /// users.
        pub allow_superuser: bool = boolean().default("false"),
        /// Bounds of the connections of guests, each of which is a call. `timeout` is for
        /// having a connection, `handles` are the connections of one mirror, `max_request`
        /// is for one command, and `max_result` for the result of one statement.
        pub limits: CallLimits = LIMITS_KEY => limits::read,
    }
}

impl GrantSection for MysqlGrant {
    fn secrets(&mut self) -> Vec<&mut SecretRef> {
        self.url.iter_mut().collect()
    }
}
