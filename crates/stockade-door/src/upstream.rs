//! The server of a grant, and the login.

use std::sync::Arc;

use crate::server::Dial;
use crate::tls::Tls;

/// The user as whom the supervisor logs in.
#[derive(Clone)]
pub struct Login {
    /// The user; empty for Redis without users.
    pub user: String,
    /// The password; empty for none.
    pub password: String,
    /// The database; for Redis its number.
    pub database: String,
}

/// The server of a grant.
#[derive(Clone)]
pub struct Server {
    /// Makes connections to it.
    pub dial: Arc<dyn Dial>,
    /// TLS with which it is reached; without it, nothing is encrypted.
    pub tls: Option<Tls>,
    /// As whom the supervisor logs in.
    pub login: Login,
    /// Whether the user may do more than a guest should: read the server's files, run programs, end others' work, or
    /// read its configuration.
    pub allow_superuser: bool,
}
