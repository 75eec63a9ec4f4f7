//! `postgres`: a PostgreSQL database, for the guest's own driver and for statements.

use super::doors::sql_grant;

sql_grant! {
    /// A PostgreSQL database, for statements and for the guest's own driver. The guest has
    /// no password.
    PostgresGrant "postgres" "postgres_limits",
    /// The server, as `postgres://USER:PASSWORD@HOST:PORT/DATABASE`.
    url,
    /// Allows a role that is a superuser, or that may run programs or use the server's
    /// files.
    allow_superuser,
    /// Bounds of the connections and statements of guests, each of which is a call. `timeout`
    /// is for having a connection or a result, `handles` are the connections of one mirror,
    /// `max_request` is for one message to the server, and `max_result` for the result of one
    /// statement.
    limits,
}
