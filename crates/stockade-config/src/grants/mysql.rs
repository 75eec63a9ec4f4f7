//! `mysql`: a MySQL or MariaDB database, for the guest's own driver and for statements.

use super::doors::sql_grant;

sql_grant! {
    /// A MySQL or MariaDB database, for statements and for the guest's own driver. The guest has
    /// no password.
    MysqlGrant "mysql" "mysql_limits",
    /// The server, as `mysql://USER:PASSWORD@HOST:PORT/DATABASE`.
    url,
    /// Allows a user that may use the server's files, end the work of others or make
    /// users.
    allow_superuser,
    /// Bounds of the connections and statements of guests, each of which is a call. `timeout`
    /// is for having a connection or a result, `handles` are the connections of one mirror,
    /// `max_request` is for one command, and `max_result` for the result of one
    /// statement.
    limits,
}
