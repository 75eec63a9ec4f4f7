//! The server of a grant.

use std::sync::Arc;

use crate::Login;
use crate::server::Dial;
use crate::tls::Tls;

/// The server of a grant.
#[derive(Clone)]
pub struct Server {
    /// Makes connections to it.
    pub dial: Arc<dyn Dial>,
    /// TLS with which it is reached; without it, nothing is encrypted.
    pub tls: Option<Tls>,
    /// As whom the supervisor logs in, by SCRAM-SHA-256. Without a user it does not log in.
    pub login: Login,
    /// The database that knows the user.
    pub auth_source: String,
    /// Whether the user may do more than use the database of the grant, and whether there may be no user.
    pub allow_superuser: bool,
}
