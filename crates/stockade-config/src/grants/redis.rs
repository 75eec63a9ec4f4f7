//! `redis`: a Redis or Valkey server, for the guest's own driver.

use super::doors::door_grant;
use crate::keys::{Format, Kind, list, time};

/// A command of Redis.
const COMMAND: Format = Format {
    what: "the name of a command, as FLUSHDB",
    pattern: Some(r"^[A-Za-z][A-Za-z0-9_.]*$"),
    expect: None,
};

door_grant! {
    /// A Redis or Valkey server. The guest's own driver speaks to it, without its password.
    RedisGrant "redis" "redis_limits",
    /// The server, as `redis://USER:PASSWORD@HOST:PORT/NUMBER`, or with `rediss:` for TLS.
    /// `NUMBER` is that of the database.
    url,
    {
        /// Time of one command that does not block. The connection ends then.
        pub statement: std::time::Duration = time(1, 3_600_000).default("5s"),
        /// Time without a command, after which the connection ends.
        pub idle: std::time::Duration = time(1000, 86_400_000).default("10m"),
        /// Commands that are refused, besides those that are refused by default.
        pub refuse: Vec<String> = list(&Kind::Text(COMMAND)).like(&["[FLUSHDB]"]),
        /// Commands that are allowed though they are refused by default.
        pub allow: Vec<String> = list(&Kind::Text(COMMAND)).like(&["[EVAL, EVALSHA]"]),
    },
    /// Allows a user that may read the server's configuration and its list of users.
    allow_superuser,
    /// Bounds of the connections of guests, each of which is a call. `timeout` is for
    /// having a connection, `handles` are the connections of one mirror, `max_request`
    /// is for one command, and `max_result` for one reply.
    limits,
    sql: |_| None,
}
